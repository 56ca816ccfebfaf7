"""Ways to need less GPU memory: the same numbers come out; estimates by hand; the benchmark of steps and memory."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_personalizers import PROMPTS, latents, settings
from tiny_base import CHANNELS, same, state, write_base

from iddmbench.errors import UserError
from iddmbench.models.base import MEMORY, BaseModel, load_base
from iddmbench.models.recipe import LoraSettings
from iddmbench.personalize.adapter import own_name
from iddmbench.personalize.dreambooth import DreamBooth, DreamBoothSettings, FullTrainer
from iddmbench.personalize.lora import Lora
from iddmbench.personalize.optimizer import OffloadedAdamW, adamw
from iddmbench.run.config import RunConfig, default_folder, make_config
from iddmbench.seeds import Seeds
from iddmbench.store.cost import noted, read_cost
from iddmbench.sweep import gpu_memory

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"), "epsilon")


def trained(base: BaseModel, plugin: Any, chosen: Any) -> dict[str, torch.Tensor]:
    with plugin.trainer(base, chosen, latents(2, 9), Seeds(0)) as trainer:
        trainer.train(latents(3), plugin.text(base, chosen, [PROMPTS[0]] * 3), 3)
        return plugin.tensors(trainer.model())


@pytest.mark.parametrize("memory", [("checkpoint",), ("offload",), ("checkpoint", "offload")], ids="+".join)
def test_the_same_weights_come_out(folder: Path, memory: tuple[str, ...]) -> None:
    """To the last bit, of an adapter, of the UNet and with the text encoder, on one base after another."""
    usual, sparing = load_base(str(folder)), load_base(str(folder), memory=memory)
    before = state(sparing)
    assert sparing.unet.is_gradient_checkpointing == ("checkpoint" in memory) == sparing.vae.is_gradient_checkpointing
    lora = LoraSettings.model_validate({"rank": 4, "alpha": 4, "steps": 4, "prior_batch": 1})
    kinds = [(Lora(), lora), (DreamBooth(), settings()), (DreamBooth(), settings(train_text_encoder=True))]
    for plugin, chosen in kinds:
        one, other = (trained(base, plugin, chosen) for base in (usual, sparing))
        assert one and same(one, other)
    after = {own_name(name): weight for name, weight in state(sparing).items()}  # peft leaves its wrappers behind
    assert same(after, before), "the base's own weights come back"
    sparing.save_memory(2)
    sparing.save_memory(0)
    assert sparing.unet.is_gradient_checkpointing == ("checkpoint" in memory)


def test_what_a_step_does_not_use_is_away_until_it_is_asked_for(folder: Path) -> None:
    base = load_base(str(folder), memory=["offload"])
    trained(base, DreamBooth(), settings())
    assert base._away == {"vae", "text_encoder"}
    base.embed_text(PROMPTS)
    assert base._away == {"vae"}
    assert base.decode(torch.zeros(1, CHANNELS, 4, 4)).shape[-1] == 8 and not base._away
    trained(base, DreamBooth(), settings(train_text_encoder=True))
    assert base._away == {"vae"}, "its text encoder is trained"
    usual = load_base(str(folder))
    trained(usual, DreamBooth(), settings())
    assert not usual._away


def test_offloaded_weights_come_back_after_an_error(folder: Path) -> None:
    base = load_base(str(folder), memory=["offload"])
    before, places = state(base), [weight.data_ptr() for weight in base.unet.parameters()]
    with pytest.raises(KeyError), FullTrainer(base, settings(), latents(2, 9), Seeds(0)) as trainer:
        trainer.train(latents(3), base.embed_text([PROMPTS[0]] * 3), 2)
        assert not same(state(base), before)
        raise KeyError
    assert same(state(base), before) and places == [weight.data_ptr() for weight in base.unet.parameters()]


GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_an_offloaded_optimizer_is_adamw(device: str) -> None:
    """Equal to the last bit with rates that change and a weight without a gradient; its moments lie in CPU memory."""
    draws = Seeds(0).torch()
    starts = [torch.randn(shape, generator=draws).to(device) for shape in ((4, 3), (5,), (2, 3, 3, 3))]
    both = [[torch.nn.Parameter(w.clone()) for w in starts] for _ in range(2)]
    one, other = (adamw("adamw", weights, 1e-2, offload) for weights, offload in zip(both, (False, True), strict=True))
    assert isinstance(other, OffloadedAdamW)
    for step in range(4):
        gradients = [torch.randn(w.shape, generator=draws).to(device) for w in starts]
        for weights, optimizer in zip(both, (one, other), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 / (step + 1)
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = None if step == 2 and weight.ndim == 1 else gradient.clone()
            optimizer.step()
    for weight, expected, start in zip(both[1], both[0], starts, strict=True):
        assert torch.equal(weight, expected) and not torch.equal(weight, start)
        assert all(other.state[weight][name].device.type == "cpu" for name in ("exp_avg", "exp_avg_sq"))


def test_attention_runs_in_torch_s_own_kernel(folder: Path) -> None:
    """scaled_dot_product_attention, in UNet, VAE and text encoder: its memory grows with the tokens, not with their square."""
    base = load_base(str(folder))
    kinds = {type(processor).__name__ for processor in base.unet.attn_processors.values()}
    kinds |= {type(processor).__name__ for processor in base.vae.attn_processors.values()}
    assert kinds == {"AttnProcessor2_0"} and base.text_encoder.config._attn_implementation == "sdpa"


# ---- as a setting of a run -----------------------------------------------------------------------------------------------


def test_memory_names_no_folder() -> None:
    usual, sparing = make_config({}), make_config({"memory": ["checkpoint", "offload"]})
    assert sparing.memory == ("checkpoint", "offload") and default_folder(usual) == default_folder(sparing)
    assert set(MEMORY) == {"checkpoint", "offload"}
    description = RunConfig.model_fields["memory"].description or ""
    assert all(name in description for name in MEMORY)
    with pytest.raises(UserError, match=r"memory\.0: Input should be 'checkpoint' or 'offload'"):
        make_config({"memory": ["disk"]})


# ---- estimates -----------------------------------------------------------------------------------------------------------


def test_estimates_by_hand() -> None:
    """LoRA: weights and four images' activations. DreamBooth with the text encoder: four times what is trained on top, once
    where it offloads; the base's own weights lie on the GPU all the same, without the VAE."""
    base, trained_, cast = 3.44 + 0.49 + 0.33, 3.44 + 0.49, 3.44 / 2
    lora = LoraSettings.model_validate({})
    assert gpu_memory.training_gb("lora", lora) == pytest.approx(base + 0.1 + cast + 4 * 1.1)
    assert gpu_memory.training_gb("lora", lora, "fp32") == pytest.approx(base + 0.1 + 4 * 1.7)
    assert gpu_memory.training_gb("lora", lora, memory=["checkpoint"]) == pytest.approx(base + 0.1 + cast + 0.2 * 4.4)
    assert gpu_memory.activations_gb(4, "fp32", ["checkpoint"], decoded=True) == pytest.approx(
        4 * (0.2 * 1.7 + 0.43 * 6.6)
    )
    whole = DreamBoothSettings.model_validate({"train_text_encoder": True, "prior_weight": 0})
    assert gpu_memory.training_gb("dreambooth", whole) == pytest.approx(base + 4 * trained_ + cast + 2 * 1.1)
    offloaded = gpu_memory.training_gb("dreambooth", whole, memory=["offload"])
    assert offloaded == pytest.approx(2 * trained_ + cast + 2 * 1.1)
    eight = whole.model_copy(update={"optimizer": "adamw-8bit"})
    assert gpu_memory.training_gb("dreambooth", eight) == pytest.approx(base + 2.5 * trained_ + cast + 2 * 1.1)


def test_the_benchmark_of_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of row on hardly any weights; one that can't run says why."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("sd_steps", "sd_base"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import sd_steps
    from sd_base import RandomBase

    monkeypatch.setattr(sd_steps, "WARM_UP", 0)
    monkeypatch.setattr(sd_steps, "TIMED", 1)
    base = RandomBase(tmp_path, "cpu", tiny=True)
    rows = [*{row.what: row for row in sd_steps.rows()}.values()]
    eight = next(row for row in sd_steps.rows() if row.settings.get("optimizer"))
    found = [sd_steps.measured(base, row, tiny=True) for row in (*rows, eight)]
    assert {row.what for row in rows} == set(sd_steps.STEPS)
    assert [one.error for one in found[:-1]] == [""] * len(rows) and all(one.seconds > 0 for one in found[:-1])
    assert found[-1].error.startswith("UserError: optimizer=adamw-8bit needs a CUDA device")
    report = {"device": "CPU", "versions": {"torch": "2"}, "side": 64, "left_out": [], "rows": []}
    report["rows"] = json.loads(json.dumps([sd_steps.asdict(one) for one in found]))
    table = sd_steps.markdown(report)
    assert (
        table.count("\n| ") == len(found) + 1 and "as the example scripts" in table and "needs a CUDA device" in table
    )


def test_cuda_is_there_before_its_memory_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker's first stage may be what asks for the GPU first; torch resets no peak of a device that it has not opened."""
    calls: list[str] = []
    for name in ("init", "reset_peak_memory_stats", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda *device, name=name: calls.append(name))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7)
    with noted(tmp_path, torch.device("cuda:0")):
        calls.append("work")
    assert calls == ["init", "reset_peak_memory_stats", "work", "synchronize"]
    assert read_cost(tmp_path).device_memory == 7
