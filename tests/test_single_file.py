"""Base models in one .safetensors file, from the hub by revision, and from a folder of another family."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compvis import small_pipeline, tensors, write_file
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel, load_base, open_base
from iddmbench.models.clip_tokenizer import FILE, PACKAGE, write_tokenizer
from iddmbench.wheel_files import wheel_file


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IDDMBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def same_weights(base: BaseModel, pipeline: StableDiffusionPipeline, exact: bool = True) -> None:
    for part in ("unet", "vae", "text_encoder"):
        found, wanted = getattr(base, part).state_dict(), getattr(pipeline, part).state_dict()
        assert found.keys() == wanted.keys()
        for name, weight in wanted.items():
            expected = weight if exact or not weight.is_floating_point() else weight.half().float()
            assert torch.equal(found[name], expected), (part, name)


@pytest.mark.parametrize("second", [False, True], ids=["stable diffusion 1", "stable diffusion 2"])
def test_a_file_is_the_model_it_was_made_of(tmp_path: Path, cache: Path, second: bool) -> None:
    """The same weights, configurations and outputs as the pipeline's; made a folder once."""
    pipeline = small_pipeline(tmp_path, second)
    file = write_file(
        tmp_path / "model.safetensors", pipeline, second, **{"modelspec.prediction_type": "v"} if second else {}
    )
    base = load_base(str(file))
    base.check_parts()
    same_weights(base, pipeline)
    assert base.scheduler.config.prediction_type == ("v_prediction" if second else "epsilon")
    assert base.side == (192 if second else 128), "latents of 96 where the UNet predicts velocity"
    for part in ("unet", "vae"):
        found, wanted = (dict(getattr(model, part).config) for model in (base, pipeline))
        for key in wanted.keys() - {"sample_size", "_use_default_values", "_name_or_path"}:
            assert np.array_equal(np.array(found[key], object), np.array(wanted[key], object)), key
    assert base.text_encoder.config.hidden_act == ("gelu" if second else "quick_gelu")
    x, t, text = torch.randn(1, 4, 8, 8), torch.tensor([400]), base.embed_text(["a photo of person"])
    with torch.no_grad():
        ids = base.tokens(["a photo of person"])
        torch.testing.assert_close(text, pipeline.text_encoder(ids).last_hidden_state)
        torch.testing.assert_close(base.unet(x, t, text).sample, pipeline.unet(x, t, text).sample)
        torch.testing.assert_close(base.vae.decode(x).sample, pipeline.vae.decode(x).sample)
    [folder] = (cache / "bases").glob("model-*")
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = open_base(str(file))
    assert again.fingerprint == base.fingerprint and times == {
        path: path.stat().st_mtime_ns for path in folder.rglob("*")
    }


def test_half_precision_stays_half_on_disk(tmp_path: Path, cache: Path) -> None:
    pipeline = small_pipeline(tmp_path)
    base = load_base(str(write_file(tmp_path / "half.safetensors", pipeline, half=True)))
    same_weights(base, pipeline, exact=False)
    [unet] = (cache / "bases").glob("half-*/unet/*.safetensors")
    assert unet.stat().st_size < 2.1 * sum(w.numel() for w in pipeline.unet.parameters()) + 100_000


def test_what_a_file_predicts(tmp_path: Path) -> None:
    """Its metadata, a tensor, or the .yaml beside it say so; Stable Diffusion 1 predicts noise where nothing does."""
    from iddmbench.models.single_file import prediction, read_header

    pipeline = small_pipeline(tmp_path, True)
    file = write_file(tmp_path / "two.safetensors", pipeline, True)
    with pytest.raises(
        UserError, match=r"does not say whether it predicts noise or velocity: put its \.yaml beside it, two"
    ):
        open_base(str(file))
    beside = tmp_path / "two.yaml"
    for text, expected in (("parameterization: v", "v_prediction"), ("linear_start: 0.00085", "epsilon")):
        beside.write_text(f"model:\n  params:\n    {text}\n")
        assert prediction(read_header(file)) == expected
    beside.write_text("model: [")
    with pytest.raises(UserError, match=r"two\.yaml is not its configuration"):
        prediction(read_header(file))
    beside.unlink()
    write_file(file, pipeline, True, **{"modelspec.prediction_type": "sample"})
    with pytest.raises(UserError, match="it predicts 'sample', which is neither"):
        prediction(read_header(file))
    save_file({**tensors(pipeline, True), "v_pred": torch.tensor(1.0)}, file)
    assert prediction(read_header(file)) == "v_prediction"


Tensors = dict[str, torch.Tensor]


def without(start: str) -> Callable[[Tensors], Tensors]:
    return lambda found: {name: w for name, w in found.items() if not name.startswith(start)}


def only(start: str, cut: str = "") -> Callable[[Tensors], Tensors]:
    return lambda found: {name.removeprefix(cut): w for name, w in found.items() if name.startswith(start)}


def with_(name: str, *shape: int) -> Callable[[Tensors], Tensors]:
    return lambda found: {**found, name: torch.zeros(shape)}


UNET = "model.diffusion_model."
WRONG: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "SDXL": (with_("conditioner.embedders.1.model.ln_final.weight", 8), "a Stable Diffusion XL model, with two text"),
    "SDXL's UNet": (with_(f"{UNET}label_emb.0.0.weight", 8, 8), "a Stable Diffusion XL model"),
    "SD 3": (with_(f"{UNET}joint_blocks.0.x", 2), "it is a Stable Diffusion 3 model; give a Stable Diffusion 1 or 2"),
    "Flux": (with_("double_blocks.0.img_attn.qkv.weight", 2), "it is a Flux model"),
    "a LoRA": (
        lambda found: {"lora_unet_mid.lora_down.weight": torch.zeros(1)},
        "it is a LoRA, not a model (--adapter",
    ),
    "a UNet": (only(UNET, UNET), "it is a UNet alone"),
    "a VAE": (only("first_stage_model.", "first_stage_model."), "it is a VAE alone"),
    "no VAE": (without("first_stage_model."), "it has no VAE: give a file with all parts, or a folder"),
    "no text encoder": (without("cond_stage_model."), "it has no text encoder"),
    "something else": (lambda found: {"weight": torch.zeros(1)}, "it holds no model (its first tensor is weight)"),
    "inpainting": (with_(f"{UNET}input_blocks.0.0.weight", 64, 9, 3, 3), "for inpainting (9 input channels)"),
    "half of a UNet": (without(f"{UNET}out."), "its tensors are not those of a whole model"),
    "a hole in a UNet": (without(f"{UNET}middle_block.1"), "weights of its UNet or VAE are missing"),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensors]:
    folder = tmp_path_factory.mktemp("small")
    return folder, tensors(small_pipeline(folder))


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused_in_one_line(
    case: str, weights: tuple[Path, Tensors], tmp_path: Path, cache: Path
) -> None:
    change, message = WRONG[case]
    shutil.copytree(weights[0] / "tokenizer", tmp_path / "tokenizer")
    save_file({n: w.contiguous() for n, w in change(weights[1]).items()}, file := tmp_path / "wrong.safetensors")
    with pytest.raises(UserError) as raised:
        open_base(str(file))
    text = str(raised.value)
    assert text.startswith(f"base model '{file}' can't be loaded: ") and message in text and "\n" not in text, text
    assert not list((cache / "bases").glob("wrong*")) and not list((cache / "bases").glob(".wrong*/")), (
        "nothing is left"
    )


def test_other_files(weights: tuple[Path, Tensors], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "damaged.safetensors").write_bytes(b"no header")
    (tmp_path / "model.ckpt").write_bytes(b"pickle")
    save_file(weights[1], tmp_path / "alone.safetensors")
    monkeypatch.setattr("iddmbench.models.clip_tokenizer.PACKAGE", "no_such_package")
    for name, message in {
        "damaged.safetensors": r"can't be read as safetensors",
        "model.ckpt": r"one \.ckpt file, a pickle that could run code: convert it",
        "missing.safetensors": r"there is no file '.*missing\.safetensors'",
        "alone.safetensors": r"has no tokenizer, as no single file does: pip install 'iddmbench\[clip\]' brings CLIP's",
    }.items():
        with pytest.raises(UserError, match=message):
            open_base(str(tmp_path / name))
    (tmp_path / "tokenizer").mkdir()
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(weights[0] / "tokenizer" / file, tmp_path / "tokenizer" / file)
    with pytest.raises(UserError, match=r"alone\.safetensors' can't be loaded: the tokenizer of .* in prompts of"):
        open_base(str(tmp_path / "alone.safetensors"))  # without its configuration, prompts have no longest length


def test_the_tokenizer_is_clip_s(tmp_path: Path) -> None:
    """Token by token as open_clip's own; Stable Diffusion 2 fills up with id 0, as it does."""
    open_clip = pytest.importorskip("open_clip.tokenizer")
    from transformers import CLIPTokenizer

    source = wheel_file(PACKAGE, FILE)
    write_tokenizer(source, tmp_path / "one")
    write_tokenizer(source, tmp_path / "two", "!")
    prompts = ["a photo of sks person", "A DSLR portrait, 3/4 view: it's  naïve", "", "riding " * 90, "so good!"]
    wanted = open_clip.SimpleTokenizer()(prompts)
    one, two = (
        CLIPTokenizer.from_pretrained(tmp_path / name)(
            prompts, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        for name in ("one", "two")
    )
    assert one.shape == (5, 77) and torch.equal(one.masked_fill(wanted == 0, 0), wanted)
    assert torch.equal(one[2, 1:], torch.full((76,), 49407)), "Stable Diffusion 1 fills up with the end"
    assert torch.equal(two[:4], wanted[:4])  # there "!" is what fills up, also where a prompt has one


# ---- the hub, and folders ------------------------------------------------------------------------------------------------


def test_revisions_and_half_precision_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None, str | None]] = []
    small_pipeline(tmp_path).save_pretrained(tmp_path / "found")

    def download(hub: str, **wanted: Any) -> str:
        asked.append((hub, wanted.get("revision"), wanted.get("variant")))
        if "half" in hub and not wanted.get("variant"):
            raise OSError("Could not find the necessary `safetensors` weights in {...} (variant=None)")
        if "gone" in hub:
            raise OSError(f"{wanted.get('revision')} is not a valid git identifier")
        return str(tmp_path / "found")

    monkeypatch.setattr(StableDiffusionPipeline, "download", download)
    sd15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    for name in ("sd15", "sd15@refs/pr/4", "someone/model@v1.0", "someone/half@abc123"):
        open_base(name).check_parts()
    wanted = [(sd15, None, None), (sd15, "refs/pr/4", None), ("someone/model", "v1.0", None)]
    assert asked == [*wanted, ("someone/half", "abc123", None), ("someone/half", "abc123", "fp16")]
    with pytest.raises(
        UserError, match=r"base model 'someone/gone@v9' could not be downloaded \(v9 is not a valid git"
    ):
        open_base("someone/gone@v9")
    for name in ("someone/model@", "micro@v1", "a/b@c@d", "a/b@-x"):
        with pytest.raises(UserError, match=r"unknown base model|there is no folder"):
            open_base(name)


def test_a_folder_of_another_family(tmp_path: Path) -> None:
    """And one whose safety checker is named but not there, which needs none."""
    small_pipeline(tmp_path).save_pretrained(tmp_path / "base")
    index = tmp_path / "base" / "model_index.json"
    usual = json.loads(index.read_text())
    for name, message in {
        "StableDiffusionXLPipeline": r"it is a Stable Diffusion XL model \(StableDiffusionXLPipeline\), with two text encoders",
        "FluxPipeline": "it is a FluxPipeline; give a Stable Diffusion 1 or 2 model",
        "StableDiffusion3Pipeline": "it is a StableDiffusion3Pipeline; give",
    }.items():
        index.write_text(json.dumps({**usual, "_class_name": name}))
        with pytest.raises(UserError, match=message):
            open_base(str(tmp_path / "base")).check_parts()
    checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index.write_text(json.dumps({**usual, "safety_checker": checker, "requires_safety_checker": True}))
    base = load_base(str(tmp_path / "base"))
    base.check_parts()
    assert base.unet is not None
