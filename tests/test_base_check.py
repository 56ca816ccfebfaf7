"""A base model is refused before anything is computed, in one line, when it is not whole or of another kind."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from huggingface_hub import hf_api
from tiny_base import write_base

from iddmbench.errors import UserError
from iddmbench.models.base import open_base
from iddmbench.models.check import check_targets


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("whole"))


def remove(*paths: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in paths:
            target = folder / path
            shutil.rmtree(target) if target.is_dir() else target.unlink()

    return change


def rename(path: str, name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).rename((folder / path).with_name(name)) and None


def set_(path: str, **values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / path
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return change


def second_encoder(folder: Path) -> None:
    shutil.copytree(folder / "text_encoder", folder / "text_encoder_2")


def split_in_two(folder: Path) -> None:
    unet = folder / "unet"
    (unet / "diffusion_pytorch_model.safetensors").rename(unet / "diffusion_pytorch_model-00001-of-00002.safetensors")
    names = {
        "a": "diffusion_pytorch_model-00001-of-00002.safetensors",
        "b": "diffusion_pytorch_model-00002-of-00002.safetensors",
    }
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


UNET = "unet/diffusion_pytorch_model.safetensors"
WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "no tokenizer": (remove("tokenizer"), "it has no tokenizer folder"),
    "an empty tokenizer": (remove("tokenizer/tokenizer.json"), "tokenizer has neither vocab.json and merges.txt nor"),
    "no text encoder": (remove("text_encoder"), "it has no text_encoder folder"),
    "no scheduler": (remove("scheduler/scheduler_config.json"), "scheduler has no scheduler_config.json"),
    "no weights": (remove(UNET), "unet has no .safetensors file"),
    "a pickle": (
        rename(UNET, "diffusion_pytorch_model.bin"),
        "but diffusion_pytorch_model.bin, a pickle that could run",
    ),
    "weights of another name": (
        rename(UNET, "unet.safetensors"),
        "no diffusion_pytorch_model.safetensors, but unet.safe",
    ),
    "half of the weights": (split_in_two, "unet lacks diffusion_pytorch_model-00002-of-00002.safetensors"),
    "SDXL": (second_encoder, "a Stable Diffusion XL model"),
    "SDXL's UNet": (set_("unet/config.json", addition_embed_type="text_time"), "as Stable Diffusion XL's does"),
    "inpainting": (set_("unet/config.json", in_channels=9), "for inpainting (9 input channels)"),
    "another VAE": (set_("vae/config.json", latent_channels=16), "takes 4 channels, but the VAE's latents have 16"),
    "another text encoder": (set_("text_encoder/config.json", hidden_size=1024), "but the text encoder's have 1024"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_folder_that_is_not_whole(case: str, whole: Path, tmp_path: Path) -> None:
    change, message = WRONG[case]
    folder = Path(shutil.copytree(whole, tmp_path / "base"))
    change(folder)
    with pytest.raises(UserError) as raised:
        open_base(str(folder)).check_parts()
    text = str(raised.value)
    assert text.startswith(f"base model '{folder}' can't be loaded from {folder}: ") and message in text, text


def halved(whole: Path, folder: Path) -> Path:
    """The base in half precision, as the hub's "fp16" variants are."""
    pipeline = StableDiffusionPipeline.from_pretrained(whole, torch_dtype=torch.float16)
    pipeline.save_pretrained(folder, variant="fp16")
    return folder


def test_fp16_weights_alone_are_read_and_made_float32(whole: Path, tmp_path: Path) -> None:
    base, plain = open_base(str(halved(whole, tmp_path / "half"))), open_base(str(whole))
    base.check_parts()
    assert base.unet.dtype == base.vae.dtype == base.text_encoder.dtype == torch.float32
    for own, other in ((base.unet, plain.unet), (base.vae, plain.vae), (base.text_encoder, plain.text_encoder)):
        for (name, a), (_, b) in zip(own.state_dict().items(), other.state_dict().items(), strict=True):
            assert torch.equal(a, b.half().float() if b.is_floating_point() else b), name


def test_whole_ones_pass(whole: Path) -> None:
    open_base(str(whole)).check_parts()
    open_base("micro").check_parts()


NAMES = {
    "models/sd15": "there is no folder 'models/sd15'",
    "/no/such/folder": "there is no folder '/no/such/folder'",
    "./sd15": "there is no folder './sd15'",
    "~/sd15": "there is no folder '~/sd15'",
    "a/b/c": "there is no folder 'a/b/c'",
    "here/sd15": "there is no folder 'here/sd15'",
    "sd15.safetensors": "there is no file 'sd15.safetensors'",
    "here/v1-5.ckpt": "is one .ckpt file",
    "mikro": "unknown base model 'mikro'",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_mistyped_path_does_not_go_out_to_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(StableDiffusionPipeline, "download", lambda *a, **k: pytest.fail("it went out"))
    with pytest.raises(UserError) as raised:
        open_base(name)
    assert NAMES[name] in str(raised.value)


def test_a_hub_id_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(hub: str, **_: object) -> str:
        raise OSError(f"no network for {hub}")

    monkeypatch.setattr(StableDiffusionPipeline, "download", offline)
    with pytest.raises(UserError, match="'someone/sd-15' could not be downloaded"):
        open_base("someone/sd-15")


def test_without_a_way_to_the_hub_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the hub's own client, which finds nobody behind the address; it prints nothing of its own."""
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(hf_api.api, "endpoint", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(UserError) as raised:
            open_base("someone/sd-15")
    told = "'someone/sd-15' could not be downloaded (the Hugging Face hub can't be reached: "
    assert told in str(raised.value) and "give its folder with --base" in str(raised.value)
    assert "\n" not in str(raised.value) and capfd.readouterr() == ("", "")


def test_targets(whole: Path) -> None:
    check_targets(("to_q", "to_out.0", "conv1"), whole)
    with pytest.raises(UserError, match="no layer 'to_w': did you mean 'to_"):
        check_targets(("to_q", "to_w"), whole)
