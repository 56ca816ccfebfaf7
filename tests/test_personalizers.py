"""Personalizers: `dreambooth` against a loop of plain torch, and in a run; what only works with `lora` says so."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_base import CHANNELS, SIDE, same, state, write_base
from typer.testing import CliRunner

from iddmbench.cli import app
from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel, load_base
from iddmbench.models.recipe import Sampling
from iddmbench.personalize.adapter import own_name
from iddmbench.personalize.dreambooth import DreamBooth, DreamBoothSettings, FullTrainer
from iddmbench.personalize.personalizer import PERSONALIZERS
from iddmbench.personalize.sample import applied, generate
from iddmbench.personalize.trainer import PersonalizedModel
from iddmbench.results.reproduce import command
from iddmbench.results.run_folder import RunFolder
from iddmbench.run import pipeline
from iddmbench.run.config import make_config
from iddmbench.run.plan import RunPlan
from iddmbench.seeds import Seeds

pytestmark = pytest.mark.usefixtures("plugins")

PROMPTS = ["a photo of sks person", "a photo of person"]
QUICK = {"steps": 4, "learning_rate": 1e-3, "prior_batch": 1, "class_images": 2}


@pytest.fixture(scope="module", params=["v_prediction", "epsilon"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = tmp_path_factory.mktemp("base")
    return load_base(str(write_base(folder, request.param, {} if request.param == "epsilon" else None)))


def settings(**changes: object) -> DreamBoothSettings:
    return DreamBoothSettings.model_validate({**QUICK, **changes})


def test_presets_are_the_published_scripts_settings() -> None:
    """By file of diffusers' examples and of Anti-DreamBooth's code, read there."""
    preset = {
        (p, n): v for p in ("lora", "dreambooth", "textual-inversion") for n, v in PERSONALIZERS.get(p).presets.items()
    }
    names = ("steps", "batch_size", "learning_rate", "prior_weight", "class_images")

    def has(personalizer: str, name: str, *values: float) -> None:
        assert tuple(preset[personalizer, name].get(key) for key in names[: len(values)]) == values, (
            personalizer,
            name,
        )

    has("lora", "diffusers", 500, 4, 5e-4, 0.0, 100)  # train_dreambooth_lora.py; steps: README.md
    has("lora", "diffusers-guide", 500, 1, 1e-4, 0.0)  # README.md, "Training with Low-Rank Adaptation"
    assert preset["lora", "diffusers"]["rank"] == preset["lora", "diffusers"]["alpha"] == 4  # --rank, lora_alpha=rank
    has("dreambooth", "diffusers", 400, 4, 5e-6, 0.0, 100)  # train_dreambooth.py; steps: README.md
    has("dreambooth", "diffusers-guide", 800, 1, 5e-6, 1.0, 200)  # README.md, "with prior-preservation loss"
    has("dreambooth", "anti-dreambooth", 1000, 2, 5e-7, 1.0, 200)  # scripts/attack_with_aspl.sh
    assert preset["dreambooth", "anti-dreambooth"]["train_text_encoder"] is True
    has("textual-inversion", "diffusers", 5000, 16, 1e-4)  # textual_inversion.py
    has("textual-inversion", "diffusers-guide", 3000, 1 * 4, 5e-4 * 4)  # README.md: batch 1, 4 accumulated, --scale_lr
    for (personalizer, _), values in preset.items():
        PERSONALIZERS.get(personalizer).Settings.model_validate(values)


def latents(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, CHANNELS, SIDE // 2, SIDE // 2, generator=Seeds(seed).child("latents").torch())


def train(base: BaseModel, steps: int = 3, **changes: object) -> PersonalizedModel:
    trainer = DreamBooth().trainer(base, settings(**changes), latents(2, 9), Seeds(0))
    with trainer:
        trainer.train(latents(3), base.embed_text([PROMPTS[0]] * 3), steps)
        return trainer.model()


def reference(base: BaseModel, steps: int, weight: float) -> dict[str, torch.Tensor]:
    """DreamBooth as diffusers' example script trains it (instance and class images in one batch, AdamW with its defaults
    but for the rate, gradients clipped to 1), on a copy of the UNet and on the trainer's own draws."""
    unet = copy.deepcopy(base.unet).requires_grad_(True)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    own, class_, scheduler = latents(3), latents(2, 9), base.scheduler
    text = base.embed_text(PROMPTS)
    for step in range(steps):
        generator = Seeds(0).child("step", step).torch()
        chosen = torch.randperm(3, generator=generator)[:2]
        drawn = torch.randint(0, 2, (1,), generator=generator)
        batch = torch.cat((own[chosen], class_[drawn]))
        noise = torch.randn(batch.shape, generator=generator)
        t = torch.randint(0, scheduler.config.num_train_timesteps, (3,), generator=generator)
        predicted = unet(scheduler.add_noise(batch, noise, t), t, text[[0, 0, 1]]).sample
        velocity = scheduler.config.prediction_type == "v_prediction"
        target = scheduler.get_velocity(batch, noise, t) if velocity else noise
        loss = torch.nn.functional.mse_loss(predicted[:2], target[:2])
        loss = loss + weight * torch.nn.functional.mse_loss(predicted[2:], target[2:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
    return {own_name(name): w.detach() for name, w in unet.named_parameters() if ".lora_" not in name}


def test_dreambooth_trains_as_a_plain_loop_does(base: BaseModel) -> None:
    """All weights of the UNet, three steps with prior preservation: equal to float32's last digits."""
    found, wanted = train(base, prior_weight=0.5).replaced, reference(base, 3, 0.5)
    assert {name.removeprefix("unet.") for name in found} == wanted.keys()
    before = {own_name(name): weight for name, weight in base.unet.named_parameters()}
    for name, weight in wanted.items():
        moved = (weight - before[name]).abs().max()
        # AdamW divides by the gradient's size: where that is nearly zero, its last digits show.
        assert (found[f"unet.{name}"] - weight).abs().max() <= 0.05 * moved + 1e-6, name
        assert moved > 0, name


def test_the_base_comes_back(base: BaseModel) -> None:
    """The very same tensors, also after an error."""
    before, places = state(base), {name: weight.data_ptr() for name, weight in base.unet.named_parameters()}
    train(base)
    with pytest.raises(KeyError), FullTrainer(base, settings(), latents(2, 9), Seeds(0)):
        assert not same(state(base), before) or all(w.requires_grad for w in base.unet.parameters())
        raise KeyError
    assert same(state(base), before)
    assert places == {name: weight.data_ptr() for name, weight in base.unet.named_parameters()}
    assert not any(weight.requires_grad or weight.grad is not None for weight in base.unet.parameters())


def test_a_model_generates_what_was_trained(base: BaseModel) -> None:
    model, sampling = train(base), Sampling(steps=2, guidance=2.0)
    plain = PersonalizedModel(None, settings())
    images = [generate(base, m, PROMPTS, 1, sampling, Seeds(0)) for m in (plain, model, plain)]
    assert not np.array_equal(images[0], images[1]) and np.array_equal(images[0], images[2])
    t, text = torch.tensor([10, 700]), base.embed_text(PROMPTS)
    with FullTrainer(base, settings(), latents(2, 9), Seeds(0)) as trainer:
        trainer.train(latents(3), base.embed_text([PROMPTS[0]] * 3), 3)
        with torch.no_grad():
            during = trainer.unet(latents(2), t, text).sample
    with applied(base, model) as unet, torch.no_grad():
        assert torch.equal(unet(latents(2), t, text).sample, during)


def test_some_weights_only(base: BaseModel) -> None:
    class Values(FullTrainer):
        def chosen(self, name: str) -> bool:
            return name.endswith("to_v.weight")

    class Nothing(FullTrainer):
        def chosen(self, name: str) -> bool:
            return name.endswith("no_such.weight")

    with Values(base, settings(), latents(2, 9), Seeds(0)) as trainer:
        trainer.train(latents(3), base.embed_text([PROMPTS[0]] * 3), 1)
        names = trainer.model().replaced
    assert names and all(name.endswith("to_v.weight") for name in names)
    with pytest.raises(UserError, match="has none of the weights that this personalizer trains"):
        Nothing(base, settings(), latents(2, 9), Seeds(0)).__enter__()


def test_the_rate_is_constant(base: BaseModel) -> None:
    with FullTrainer(base, settings(), latents(2, 9), Seeds(0)) as trainer:
        trainer.train(latents(3), base.embed_text([PROMPTS[0]] * 3), 4)
        assert trainer.optimizer.param_groups[0]["lr"] == 1e-3


# ---- in a run ----------------------------------------------------------------------------------------------------------


def options(folder: Path, **more: object) -> dict[str, object]:
    made = {"dataset": "tiny-orl", "subjects": 2, "base": str(folder), "defenses": ("iddm",), "strengths": (1.0,)}
    return {**made, "attackers": ("coarse",), "images_per_prompt": 1, "defense_options": {"rounds": 1}, **more}


@pytest.mark.slow
def test_a_run_with_dreambooth(tmp_path: Path) -> None:
    """IDDM and the undefended model are trained by it; lora's results in the same cache are others, and are not mixed up."""
    folder = write_base(tmp_path / "base")
    chosen = {"personalizer": "dreambooth", "personalizer_options": {**QUICK}}
    config = make_config(options(folder, **chosen))
    assert pipeline.run(config, tmp_path / "out", tmp_path / "cache") == 0
    run = RunFolder.open(tmp_path / "out")
    assert run.config["personalizer"] == "dreambooth" and run.config["lora_settings"]["learning_rate"] == 1e-3
    assert {*run.cells["defense"]} == {"none", "generic", "iddm"} and (run.cells["status"] == "ok").all()
    words = command(run.config)
    assert words[words.index("--personalizer") + 1] == "dreambooth" and "learning_rate=0.001" in words

    full, lora = (RunPlan.of(c, tmp_path / "cache") for c in (config, make_config(options(folder))))
    for one, other in zip(full.cells, lora.cells, strict=True):
        keys = full.stages.model_key(one), lora.stages.model_key(other)
        assert keys[0]["personalizer"] == {"name": "dreambooth", "version": 1} and "personalizer" not in keys[1]
        if one.defense.name == "generic":
            assert np.array_equal(full.stages.outputs(one).images, lora.stages.outputs(other).images)
        else:
            assert not np.array_equal(full.stages.outputs(one).images, lora.stages.outputs(other).images)


@pytest.mark.slow
def test_attacker_options_in_a_run(tmp_path: Path) -> None:
    """They are in the attackers' names in config.json and in every table."""
    folder = write_base(tmp_path / "base")
    more = {"attackers": ("coarse", "purify:coarse"), "attacker_options": {"purify": {"purifiers": "jpeg,blur-2"}}}
    config = make_config(options(folder, defenses=("blur",), defense_options={}, subjects=3, **more))
    assert config.attackers == ("coarse", "purify:jpeg-75,blur-2:coarse")
    assert pipeline.run(config, tmp_path / "out", tmp_path / "cache") == 0
    run = RunFolder.open(tmp_path / "out")
    assert run.config["attackers"] == ["coarse", "purify:jpeg-75,blur-2:coarse"]
    assert "purify:jpeg-75,blur-2:coarse" in {*run.summary["attacker"]}
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "attacker_options" not in written and "personalizer_options" not in written


def test_the_command_line_takes_a_personalizer() -> None:
    run = CliRunner().invoke
    unknown = run(app, ["run", "--personalizer", "dreamboot"])
    assert unknown.exit_code == 2 and "unknown personalizer 'dreamboot': did you mean 'dreambooth'" in unknown.stderr
    mixed = run(app, ["run", "--personalizer", "dreambooth", "--lora", "rank=4"])
    assert mixed.exit_code == 2 and "--lora is for personalizer 'lora'" in mixed.stderr
    assert {*PERSONALIZERS.names()} >= {"lora", "dreambooth"}
