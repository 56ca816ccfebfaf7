"""`lora` on the text encoder too: against a loop of plain torch, in a run, exported, read again, submitted."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from safetensors import safe_open
from test_personalizers import PROMPTS, latents
from tiny_base import same, state, write_base
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

import iddmbench as ib
from iddmbench.cli import app
from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel, load_base
from iddmbench.models.recipe import LoraSettings, Sampling
from iddmbench.personalize.adapter import TEXT, merged_text, own_name
from iddmbench.personalize.lora import Lora
from iddmbench.personalize.read_model import read_model
from iddmbench.personalize.sample import applied, generate, starting_noise
from iddmbench.personalize.trainer import PersonalizedModel
from iddmbench.personalize.write_lora import write_lora
from iddmbench.results.run_folder import RunFolder
from iddmbench.run import pipeline
from iddmbench.run.config import make_config
from iddmbench.seeds import Seeds
from iddmbench.submission.adapters import check_adapters
from iddmbench.submission.bundle import About, write_bundle
from iddmbench.submission.read import open_bundle
from iddmbench.submission.stages import load_parts

pytestmark = pytest.mark.usefixtures("plugins")

RANK, ALPHA, RATE = 3, 6.0, 1e-2
CHANGES: dict[str, Any] = {"rank": RANK, "alpha": ALPHA, "steps": 4, "learning_rate": RATE, "train_text_encoder": True}
CHANGES |= {"schedule": "constant", "prior_weight": 0.5, "prior_batch": 1, "class_images": 2, "batch_size": 2}


@pytest.fixture(scope="module", params=["v_prediction", "epsilon"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return load_base(str(write_base(tmp_path_factory.mktemp("base"), request.param)))


def trained(base: BaseModel, steps: int = 3, **changes: Any) -> PersonalizedModel:
    plugin, settings = Lora(), LoraSettings.model_validate({**CHANGES, **changes})
    with plugin.trainer(base, settings, latents(2, 9), Seeds(0)) as trainer:
        trainer.train(latents(3), plugin.text(base, settings, [PROMPTS[0]] * 3), steps)
        return plugin.model(plugin.tensors(trainer.model()), settings)


class Added(nn.Module):
    """A linear layer with alpha / rank * up @ down added."""

    def __init__(self, own: nn.Module, down: torch.Tensor, up: torch.Tensor):
        super().__init__()
        self.own, self.down, self.up = own, nn.Parameter(down.clone()), nn.Parameter(up.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.own(x) + x @ self.down.T @ self.up.T * (ALPHA / RANK)


def plain_loop(base: BaseModel, start: dict[str, torch.Tensor], steps: int) -> dict[str, torch.Tensor]:
    """DreamBooth's loss on copies with hand-made adapters, from the trainer's own start and draws."""
    parts = {"": copy.deepcopy(base.unet), TEXT: copy.deepcopy(base.text_encoder)}
    placed: dict[str, Added] = {}
    for name in [key.removesuffix(".lora_A.weight") for key in start if key.endswith("lora_A.weight")]:
        part = TEXT if name.startswith(TEXT) else ""
        inside = {own_name(path): path for path, _ in parts[part].named_modules()}[name.removeprefix(part)]
        layer = placed[name] = Added(
            parts[part].get_submodule(inside), start[f"{name}.lora_A.weight"], start[f"{name}.lora_B.weight"]
        )
        parent, _, last = inside.rpartition(".")
        setattr(parts[part].get_submodule(parent), last, layer)
    weights = [w for layer in placed.values() for w in (layer.down, layer.up)]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=1e-2)
    ids, scheduler = base.tokens(PROMPTS), base.scheduler
    for step in range(steps):
        draws = Seeds(0).child("step", step).torch()
        chosen = torch.randperm(3, generator=draws)[:2]
        drawn = torch.randint(0, 2, (1,), generator=draws)
        batch = torch.cat((latents(3)[chosen], latents(2, 9)[drawn]))
        noise = torch.randn(batch.shape, generator=draws)
        t = torch.randint(0, scheduler.config.num_train_timesteps, (3,), generator=draws)
        text = parts[TEXT](ids).last_hidden_state[[0, 0, 1]]
        predicted = parts[""](scheduler.add_noise(batch, noise, t), t, text).sample
        velocity = scheduler.config.prediction_type == "v_prediction"
        target = scheduler.get_velocity(batch, noise, t) if velocity else noise
        loss = F.mse_loss(predicted[:2], target[:2]) + 0.5 * F.mse_loss(predicted[2:], target[2:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    found = {f"{name}.lora_A.weight": layer.down.detach() for name, layer in placed.items()}
    return found | {f"{name}.lora_B.weight": layer.up.detach() for name, layer in placed.items()}


def test_it_trains_as_a_plain_loop_does(base: BaseModel) -> None:
    start, found = trained(base, 0).weights or {}, trained(base).weights or {}
    wanted = plain_loop(base, start, 3)
    assert found.keys() == wanted.keys() == start.keys()
    text = [name for name in found if name.startswith(TEXT)]
    assert len(text) == 2 * 2 * 4, "two tensors each for q, k, v and out of two layers"
    for name, weight in wanted.items():
        moved = (weight - start[name]).abs().max()
        assert (found[name] - weight).abs().max() <= 0.05 * moved + 1e-5 and moved > 0, name


def test_the_base_comes_back(base: BaseModel) -> None:
    trained(base)  # peft leaves its wrappers behind
    before = state(base)
    with pytest.raises(KeyError), Lora().trainer(base, LoraSettings.model_validate(CHANGES), latents(2, 9), Seeds(0)):
        assert any(w.requires_grad for w in base.text_encoder.parameters())
        raise KeyError
    with applied(base, trained(base)):
        assert not same(state(base), before)
    assert same(state(base), before)
    assert not any(w.requires_grad for part in (base.unet, base.text_encoder) for w in part.parameters())


def test_a_text_encoder_s_adapter_shows_in_prompts(base: BaseModel) -> None:
    model = trained(base)
    plain = base.embed_text(PROMPTS)
    with applied(base, model):
        assert (base.embed_text(PROMPTS) - plain).abs().max() > 1e-3
    assert torch.equal(base.embed_text(PROMPTS), plain)
    unet_only = {name: w for name, w in (model.weights or {}).items() if not name.startswith(TEXT)}
    images = [
        generate(base, PersonalizedModel(weights, model.settings), PROMPTS, 1, Sampling(steps=2), Seeds(0))
        for weights in (model.weights, unet_only)
    ]
    assert not np.array_equal(*images)
    wrong = {"text_encoder.encoder.layers.9.lora_A.weight": torch.zeros(3, 8)}
    wrong["text_encoder.encoder.layers.9.lora_B.weight"] = torch.zeros(8, 3)
    with pytest.raises(UserError, match=r"it has no text_encoder\.encoder\.layers\.9 of 8 by 8"):
        merged_text(base, wrong, 1.0)


@pytest.mark.parametrize("form", ["diffusers", "kohya"])
def test_a_file_in_plain_diffusers_and_read_again(base: BaseModel, tmp_path: Path, form: Any) -> None:
    """The suite's own images within one gray level, and the very same model when it is read."""
    model, settings = trained(base), LoraSettings.model_validate(CHANGES)
    write_lora(file := tmp_path / "pytorch_lora_weights.safetensors", dict(model.weights or {}), settings, form, {})
    with safe_open(file, "pt") as opened:
        names = list(opened.keys())
    start = "text_encoder.text_model.encoder." if form == "diffusers" else "lora_te_text_model_encoder_"
    assert sum(name.startswith(start) for name in names) == (16 if form == "diffusers" else 24)
    again = read_model(tmp_path, base)
    assert again.ignored == () and again.warnings == ()
    sampling, prompts = Sampling(steps=2, guidance=2.0), PROMPTS[:1]
    own, read = (generate(base, m, prompts, 2, sampling, Seeds(0)) for m in (model, again.model))
    assert np.array_equal(own, read)
    pipe = StableDiffusionPipeline.from_pretrained(base.folder)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, algorithm_type="dpmsolver++")
    pipe.set_progress_bar_config(disable=True)
    repeated, noise = starting_noise(base, Seeds(0), prompts, 2)
    steps = {"num_inference_steps": sampling.steps, "guidance_scale": sampling.guidance, "output_type": "np"}

    def images() -> np.ndarray:
        return (pipe(repeated, latents=noise, **steps).images * 255).round().astype(int)

    assert np.abs(images() - own).max() > 5, "the adapter has an effect that could be missed"
    pipe.load_lora_weights(tmp_path)
    assert np.abs(images() - own).max() <= 1


# ---- in a run ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finished:
    out: Path
    cache: Path
    base: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, plugins: None) -> Finished:
    where = tmp_path_factory.mktemp("run")
    options: dict[str, Any] = {"dataset": "tiny-orl", "subjects": 1, "base": str(write_base(where / "base"))}
    options |= {"defenses": ("iddm",), "defense_options": {"rounds": 1, "data_steps": 1}, "strengths": (1.0,)}
    options |= {"attackers": ("coarse",), "images_per_prompt": 1, "lora": {"train_text_encoder": "true"}}
    assert pipeline.run(make_config(options), where / "run", where / "cache") == 0
    return Finished(where / "run", where / "cache", where / "base")


def test_a_run_s_model_is_exported_evaluated_and_submitted(run: Finished, tmp_path: Path) -> None:
    folder, out = RunFolder.open(run.out), tmp_path / "models" / "s29"
    words = ["export", str(run.out), "--cache", str(run.cache), "--out", str(out), "--subject", "s29"]
    result = CliRunner().invoke(app, [*words, "--condition", "iddm-1.00"])
    assert result.exit_code == 0, result.output
    assert "16 of the text encoder" in (out / "README.md").read_text(encoding="utf-8")
    chosen: dict[str, Any] = {"dataset": "tiny-orl", "base": str(run.base), "attackers": ("coarse",)}
    found = ib.evaluate(
        adapter=out.parent, images_per_prompt=1, out=tmp_path / "out", cache=tmp_path / "cache", **chosen
    )
    own, again = folder.pictures("images", "iddm-1.00", "s29"), found.folder.pictures("images", "adapter-1.00", "s29")
    assert np.array_equal(np.stack(own), np.stack(again))
    meta = write_bundle(folder, None, About("x"), tmp_path / "b.zip", run.cache)
    assert meta.run.lora_settings["train_text_encoder"] is True
    _, base, plugin, settings, _, _ = load_parts(meta.run, {}, str(run.base), "cpu")
    assert check_adapters(bundle := open_bundle(tmp_path / "b.zip"), base, plugin, settings) == []
    without = settings.model_copy(update={"train_text_encoder": False})
    assert "is not an adapter for the bundle's base and settings" in check_adapters(bundle, base, plugin, without)[0]
