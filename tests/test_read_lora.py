"""Adapters and models that were trained elsewhere: read whole, in part, or refused by name."""

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_base import same, state, write_base
from torch import Tensor

from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel, load_base
from iddmbench.models.recipe import LoraSettings, Sampling
from iddmbench.personalize.adapter import own_name
from iddmbench.personalize.movement import moved, movement_note
from iddmbench.personalize.read_dreambooth import read_dreambooth
from iddmbench.personalize.read_lora import read_adapter
from iddmbench.personalize.sample import applied, generate
from iddmbench.personalize.trainer import PersonalizedModel, Trainer
from iddmbench.personalize.write_lora import write_lora
from iddmbench.seeds import Seeds

PROMPTS = ["a photo of sks person", "a photo of sks person, facing left"]
SAMPLING = Sampling(steps=2, guidance=2.0)
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.2", "proj_in", "conv1", "conv_shortcut")
TO_Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def base(folder: Path) -> BaseModel:
    return load_base(str(folder))


@pytest.fixture(scope="module")
def settings(base: BaseModel) -> LoraSettings:
    changes = {"rank": 4, "alpha": 8.0, "targets": TARGETS, "prior_weight": 0.0, "learning_rate": 5e-2}
    return base.recipe.lora.model_copy(update=changes)


@pytest.fixture(scope="module")
def model(base: BaseModel, settings: LoraSettings) -> PersonalizedModel:
    """A real adapter, trained for a moment."""
    latents = torch.randn(3, 4, 32, 32, generator=Seeds(1).torch())
    with Trainer(base, settings, torch.zeros(0), Seeds(0)) as trainer:
        trainer.train(latents, base.embed_text(PROMPTS[:1] * 3), 10)
        return trainer.model()


@pytest.fixture
def weights(model: PersonalizedModel) -> dict[str, Tensor]:
    assert model.weights is not None
    return dict(model.weights)


def images(base: BaseModel, model: PersonalizedModel) -> np.ndarray:
    return generate(base, model, PROMPTS, 1, SAMPLING, Seeds(5))


def save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata)
    return path


def kohya(weights: dict[str, Tensor], settings: LoraSettings, path: Path) -> dict[str, Tensor]:
    write_lora(path, weights, settings, "kohya", {})
    return load_file(path)


# ---- layouts --------------------------------------------------------------------------------------------------------

Rename = Callable[[str], str]
LAYOUTS: dict[str, Rename] = {
    "bare": lambda key: key,
    "diffusers": lambda key: f"unet.{key}",
    "peft": lambda key: f"base_model.model.{key}",
    "peft with the adapter's name": lambda key: f"base_model.model.{key.replace('.weight', '.default.weight')}",
    "older diffusers": lambda key: f"unet.{key}".replace("lora_A", "lora.down").replace("lora_B", "lora.up"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(
    layout: str, base: BaseModel, model: PersonalizedModel, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    """The same tensors, whatever they are called. These layouts have no alpha, which is the rank then."""
    path = save({LAYOUTS[layout](key): value for key, value in weights.items()}, tmp_path / "x.safetensors")
    found = read_adapter(path, base)
    assert same(found.model.weights or {}, weights)
    assert found.applied == len(weights) and found.ignored == () and found.warnings == ()
    assert {(x.rank, x.alpha) for x in found.model.layers.values()} == {(4, 4.0)}
    assert np.array_equal(images(base, found.model), images(base, half_alpha(model)))


def half_alpha(model: PersonalizedModel) -> PersonalizedModel:
    return PersonalizedModel(model.weights, model.settings.model_copy(update={"alpha": 4.0}))


def test_attention_processors_of_old_files(base: BaseModel, weights: dict[str, Tensor], tmp_path: Path) -> None:
    """down_blocks...attn1.processor.to_q_lora.down.weight, as diffusers wrote them before peft."""
    old = {}
    for key, value in weights.items():
        if ".attn1." in key or ".attn2." in key:
            name = key.replace("attn1.", "attn1.processor.").replace("attn2.", "attn2.processor.")
            name = name.replace("to_out.0", "to_out")
            old[name.replace(".lora_A", "_lora.down").replace(".lora_B", "_lora.up")] = value
    found = read_adapter(save(old, tmp_path / "x.safetensors"), base)
    assert found.applied == len(old) and found.ignored == ()
    assert same(found.model.weights or {}, {k: v for k, v in weights.items() if ".attn" in k})


def test_written_and_read_again(
    base: BaseModel, model: PersonalizedModel, settings: LoraSettings, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    own = images(base, model)
    for form in ("diffusers", "kohya"):
        write_lora(tmp_path / f"{form}.safetensors", weights, settings, form, {})  # type: ignore[arg-type]
        found = read_adapter(tmp_path / f"{form}.safetensors", base)
        assert same(found.model.weights or {}, weights) and found.layout.lower() == form
        assert np.array_equal(images(base, found.model), own), "to the last bit"


def test_what_diffusers_writes(
    base: BaseModel, weights: dict[str, Tensor], settings: LoraSettings, tmp_path: Path
) -> None:
    """`save_lora_weights`, with alpha in its own metadata."""
    config = {"r": 4, "lora_alpha": 8.0, "target_modules": list(TARGETS), "alpha_pattern": {TO_Q: 2.0}}
    StableDiffusionPipeline.save_lora_weights(tmp_path, unet_lora_layers=weights, unet_lora_adapter_metadata=config)
    found = read_adapter(tmp_path, base)
    assert same(found.model.weights or {}, weights)
    assert found.model.layers[TO_Q].alpha == 2.0
    assert {x.alpha for name, x in found.model.layers.items() if name != TO_Q} == {8.0}


@pytest.mark.parametrize("stabilized", [False, True])
def test_what_peft_writes(stabilized: bool, folder: Path, base: BaseModel, tmp_path: Path) -> None:
    """`save_pretrained` of a model that peft itself trained; its prediction is ours."""
    other = load_base(str(folder))
    config = LoraConfig(
        r=2,
        lora_alpha=6,
        target_modules=["to_q", "conv1"],
        rank_pattern={"to_q": 3},
        alpha_pattern={"mid_block.resnets.0.conv1": 1},
        use_rslora=stabilized,
    )
    unet = get_peft_model(other.unet, config)
    generator = Seeds(2).torch()
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    unet.save_pretrained(tmp_path)
    found = read_adapter(tmp_path, base)
    assert found.layout == "peft" and found.ignored == ()
    assert found.model.layers[TO_Q].rank == 3 and found.model.layers["mid_block.resnets.0.conv1"].rank == 2
    if stabilized:
        assert found.model.layers[TO_Q].alpha == pytest.approx(6 * math.sqrt(3))
    noisy, text = torch.randn(2, 4, 32, 32, generator=generator), base.embed_text(PROMPTS)
    t = torch.tensor([10, 700])
    with torch.no_grad(), applied(base, found.model) as ours:
        torch.testing.assert_close(ours(noisy, t, text).sample, unet(noisy, t, text).sample, atol=1e-5, rtol=1e-4)


def test_ranks_and_alphas_by_module(
    base: BaseModel, weights: dict[str, Tensor], settings: LoraSettings, tmp_path: Path
) -> None:
    """Kohya's scripts give 3 x 3 convolutions a rank and an alpha of their own; merged by hand, it is the same."""
    tensors = kohya(weights, settings, tmp_path / "x.safetensors")
    for key in list(tensors):
        if "conv1" in key:
            part = tensors[key]
            tensors[key] = (
                torch.tensor(1.0) if key.endswith("alpha") else part[:2] if "lora_down" in key else part[:, :2]
            )
    path = save(tensors, tmp_path / "mixed" / "mixed.safetensors")
    found = read_adapter(path, base)
    convolutions = {(x.rank, x.alpha) for name, x in found.model.layers.items() if "conv1" in name}
    assert convolutions == {(2, 1.0)} and found.model.settings.rank == 4
    merged = images(base, as_merged(base, found.model))
    assert np.abs(images(base, found.model).astype(int) - merged).max() <= 1


def as_merged(base: BaseModel, model: PersonalizedModel) -> PersonalizedModel:
    """The same model with every update added to its weight, computed here."""
    own = {own_name(name): value for name, value in base.unet.state_dict().items()}
    replaced = {}
    for name, layer in model.layers.items():
        down, up = (model.weights[f"{name}.lora_{x}.weight"] for x in "AB")  # type: ignore[index]
        update = (up.flatten(1) @ down.flatten(1)).view(own[f"{name}.weight"].shape)
        replaced[f"unet.{name}.weight"] = own[f"{name}.weight"] + layer.alpha / layer.rank * update
    return PersonalizedModel(None, model.settings, replaced=replaced)


def test_a_matrix_serves_a_1x1_convolution(base: BaseModel, weights: dict[str, Tensor], tmp_path: Path) -> None:
    flat = {key: value.flatten(1) if "proj_in" in key else value for key, value in weights.items()}
    assert any("proj_in" in key and weights[key].ndim == 4 for key in weights)
    found = read_adapter(save(flat, tmp_path / "x.safetensors"), base)
    assert same(found.model.weights or {}, weights)


# ---- the text encoder -----------------------------------------------------------------------------------------------


def text_lora(base: BaseModel, names: Callable[[str, str], str]) -> dict[str, Tensor]:
    generator = Seeds(3).torch()
    width = base.text_encoder.config.hidden_size
    tensors = {}
    for module in ("encoder.layers.0.self_attn.q_proj", "encoder.layers.1.self_attn.out_proj"):
        tensors[names(module, "down")] = torch.randn(2, width, generator=generator)
        tensors[names(module, "up")] = torch.randn(width, 2, generator=generator)
    return tensors


TEXT_LAYOUTS: dict[str, Callable[[str, str], str]] = {
    "diffusers": lambda m, r: f"text_encoder.text_model.{m}.lora_{'A' if r == 'down' else 'B'}.weight",
    "older diffusers": lambda m, r: f"text_encoder.text_model.{m}.lora_linear_layer.{r}.weight",
    "Kohya": lambda m, r: f"lora_te_text_model_{m.replace('.', '_')}.lora_{r}.weight",
}


@pytest.mark.parametrize("layout", TEXT_LAYOUTS)
def test_parts_of_the_text_encoder_are_applied(layout: str, base: BaseModel, tmp_path: Path) -> None:
    tensors = text_lora(base, TEXT_LAYOUTS[layout])
    found = read_adapter(save(tensors, tmp_path / "x.safetensors"), base)
    assert found.applied == 4 and found.model.weights is None and len(found.model.replaced) == 2
    before, plain = base.embed_text(PROMPTS), state(base)
    with applied(base, found.model):
        assert not torch.allclose(base.embed_text(PROMPTS), before)
        down, up = list(tensors.values())[:2]
        weight = base.text_encoder.get_parameter("encoder.layers.0.self_attn.q_proj.weight")
        torch.testing.assert_close(weight, plain["text.encoder.layers.0.self_attn.q_proj.weight"] + up @ down)
    assert torch.equal(base.embed_text(PROMPTS), before) and same(state(base), plain)
    assert moved(base, found.model, PROMPTS, SAMPLING) > 0.1


def test_parts_of_a_larger_text_encoder_are_named(base: BaseModel, weights: dict[str, Tensor], tmp_path: Path) -> None:
    """The base has two layers of text; the UNet's part is in effect all the same."""
    name = "text_encoder.text_model.encoder.layers.9.mlp.fc1.lora_{}.weight"
    extra = {name.format("A"): torch.zeros(2, 5), name.format("B"): torch.zeros(5, 2)}
    found = read_adapter(save(weights | extra, tmp_path / "x.safetensors"), base)
    assert found.applied == len(weights) and set(found.ignored) == set(extra)
    assert len(found.warnings) == 1 and "layers.9" in found.warnings[0] and "text encoder" in found.warnings[0]


# ---- how much of it works -------------------------------------------------------------------------------------------


def test_some_tensors_without_a_place(base: BaseModel, weights: dict[str, Tensor], tmp_path: Path) -> None:
    renamed = {key.replace("mid_block", "mid_blocks"): value for key, value in weights.items()}
    lost = [key for key in renamed if "mid_blocks" in key]
    found = read_adapter(save(renamed, tmp_path / "x.safetensors"), base)
    assert set(found.ignored) == set(lost) and found.applied == len(weights) - len(lost) > 0
    (warning,) = found.warnings
    assert f"{found.applied} tensors applied, {len(lost)} skipped" in warning and min(found.ignored) in warning
    assert f"{found.applied} tensors applied, {len(lost)} not" in str(found)


def test_half_a_pair_is_not_applied(base: BaseModel, weights: dict[str, Tensor], tmp_path: Path) -> None:
    del weights[f"{TO_Q}.lora_B.weight"]
    found = read_adapter(save(weights, tmp_path / "x.safetensors"), base)
    assert found.ignored == (f"{TO_Q}.lora_A.weight",) and TO_Q not in found.model.layers


def test_an_untrained_adapter_does_nothing(base: BaseModel, weights: dict[str, Tensor], tmp_path: Path) -> None:
    zero = {key: value * 0 if "lora_B" in key else value for key, value in weights.items()}
    found = read_adapter(save(zero, tmp_path / "x.safetensors"), base)
    assert len(found.warnings) == 1 and "loads but does nothing" in found.warnings[0]
    levels = moved(base, found.model, PROMPTS, SAMPLING)
    assert levels == 0 and "loads but does nothing" in movement_note(levels)


def test_movement_is_the_mean_difference(base: BaseModel, model: PersonalizedModel) -> None:
    plain = images(base, PersonalizedModel(None, model.settings))
    expected = np.abs(images(base, model).astype(float) - plain).mean()
    levels = moved(base, model, PROMPTS, SAMPLING, Seeds(5))
    assert levels == pytest.approx(expected) and levels > 1
    assert f"{levels:.1f} gray levels" in movement_note(levels)


# ---- what is refused ------------------------------------------------------------------------------------------------


def changed(weights: dict[str, Tensor], key: str, value: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {k: value(v) if k == key else v for k, v in weights.items()}


A, B = f"{TO_Q}.lora_A.weight", f"{TO_Q}.lora_B.weight"
REFUSED: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], list[str]]] = {
    "NaN": (lambda w: changed(w, A, lambda x: x * float("nan")), ["NaN or infinity in", A]),
    "infinity": (lambda w: changed(w, B, lambda x: x + float("inf")), ["NaN or infinity in", B]),
    "none fits": (
        lambda w: {f"model.{i}.weight": v for i, v in enumerate(w.values())},
        ["none of its", "has no effect", "model.0.weight"],
    ),
    "another width": (
        lambda w: changed(w, A, lambda x: torch.zeros(4, 320)),
        ["is for another base", "maps 320 channels", "32 to 32 in base"],
    ),
    "two ranks": (lambda w: changed(w, A, lambda x: x[:2]), ["have ranks 2 and 4"]),
    "no matrix": (lambda w: changed(w, A, lambda x: x[0]), ["which don't make a LoRA of it"]),
    "SDXL by its text encoder": (
        lambda w: {**w, "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.zeros(2, 2)},
        ["Stable Diffusion XL"],
    ),
    "SDXL by its width": (
        lambda w: {
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": torch.ones(4, 2048)
        },
        ["Stable Diffusion XL"],
    ),
    "Flux": (lambda w: {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(4, 9)}, ["Flux"]),
    "DoRA": (lambda w: {**w, f"{TO_Q}.lora_magnitude_vector": torch.ones(9)}, ["is a DoRA"]),
    "LoHa": (lambda w: {"lora_unet_mid_block_attentions_0_proj_in.hada_w1_a": torch.ones(4, 4)}, ["is a LoHa"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, base: BaseModel, weights: dict[str, Tensor], tmp_path: Path) -> None:
    change, parts = REFUSED[case]
    path = save(change(weights), tmp_path / "x.safetensors")
    with pytest.raises(UserError) as error:
        read_adapter(path, base)
    message = str(error.value)
    assert str(path) in message and "\n" not in message and all(part in message for part in parts), message


def test_sdxl_by_what_it_says(base: BaseModel, weights: dict[str, Tensor], tmp_path: Path) -> None:
    for said in (
        {"ss_base_model_version": "sdxl_base_v1-0"},
        {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"},
    ):
        with pytest.raises(UserError, match="Stable Diffusion XL"):
            read_adapter(save(weights, tmp_path / "x.safetensors", said), base)


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".bin"])
def test_pickles_are_not_opened(base: BaseModel, tmp_path: Path, suffix: str) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "went off",))

    (tmp_path / "lora").mkdir()
    path = tmp_path / "lora" / f"x{suffix}"
    path.write_bytes(pickle.dumps(Bomb()))
    for given in (path, path.parent):
        with pytest.raises(UserError, match="pickled file"):
            read_adapter(given, base)
    path.rename(path.with_suffix(".safetensors"))
    with pytest.raises(UserError, match="can't be read as safetensors"):
        read_adapter(path.parent, base)
    assert not (tmp_path / "went off").exists()


def test_files_that_are_none(base: BaseModel, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_adapter(tmp_path / "nowhere.safetensors", base)
    with pytest.raises(UserError, match=r"holds no \.safetensors file"):
        read_adapter(tmp_path, base)
    with pytest.raises(UserError, match="a whole model"):
        read_adapter(folder, base)
    save({}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="holds no tensor"):
        read_adapter(tmp_path, base)
    save({}, tmp_path / "b.safetensors")
    with pytest.raises(UserError, match=r"2 \.safetensors files: name one \(a\.safetensors, b\.safetensors\)"):
        read_adapter(tmp_path, base)


# ---- whole models ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tuned(folder: Path, tmp_path: Path) -> Path:
    """A copy of the base whose UNet and text encoder were changed, as plain diffusers saves it."""
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    generator = Seeds(4).torch()
    with torch.no_grad():
        for part in (pipe.unet, pipe.text_encoder):
            for weight in part.parameters():
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.03)
    pipe.save_pretrained(tmp_path / "tuned")
    return tmp_path / "tuned"


def test_a_dreambooth_folder_makes_its_own_images(base: BaseModel, tuned: Path) -> None:
    """What the suite makes when the folder is the base itself, to the last bit; and the base is as before."""
    before = state(base)
    found = read_dreambooth(tuned, base)
    assert found.layout == "DreamBooth folder" and found.warnings == () and found.ignored == ()
    itself = load_base(str(tuned))
    assert found.applied == sum(1 for part in (itself.unet, itself.text_encoder) for _ in part.parameters())
    assert np.array_equal(images(base, found.model), images(itself, PersonalizedModel(None, found.model.settings)))
    assert same(state(base), before)
    assert moved(base, found.model, PROMPTS, SAMPLING) > 1


def test_a_dreambooth_folder_without_text_encoder_or_with_another_vae(base: BaseModel, tuned: Path) -> None:
    vae = tuned / "vae" / "diffusion_pytorch_model.safetensors"
    save({key: value + 1 for key, value in load_file(vae).items()}, vae)
    (tuned / "text_encoder").rename(tuned / "elsewhere")
    found = read_dreambooth(tuned, base)
    assert not any(name.startswith("text_encoder") for name in found.model.replaced)
    assert len(found.warnings) == 1 and "its own VAE" in found.warnings[0]


def test_the_base_itself_does_nothing(base: BaseModel, folder: Path) -> None:
    found = read_dreambooth(folder, base)
    assert len(found.warnings) == 1 and "loads but does nothing" in found.warnings[0]
    assert moved(base, found.model, PROMPTS, SAMPLING) == 0


def test_dreambooth_folders_that_are_refused(base: BaseModel, tuned: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder unet/"):
        read_dreambooth(tmp_path / "nowhere", base)
    file = tuned / "unet" / "diffusion_pytorch_model.safetensors"
    whole = load_file(file)
    cases = {
        "lacks conv_in.bias": {key: value for key, value in whole.items() if key != "conv_in.bias"},
        r"conv_in\.bias has shape \(7,\)": whole | {"conv_in.bias": torch.zeros(7)},
        r"NaN or infinity in conv_in\.bias": whole | {"conv_in.bias": whole["conv_in.bias"] * float("nan")},
    }
    for message, tensors in cases.items():
        save(tensors, file)
        with pytest.raises(UserError, match=message):
            read_dreambooth(tuned, base)
    save(whole, file)
    scheduler = tuned / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"prediction_type": "epsilon"}))
    with pytest.raises(UserError, match=r"it predicts epsilon, base .* v_prediction"):
        read_dreambooth(tuned, base)
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(UserError, match="pickled file"):
        scheduler.unlink()
        read_dreambooth(tuned, base)
