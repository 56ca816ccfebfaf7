"""Adapters, their training and sampling, on two tiny bases: v-prediction with DDPM, epsilon with PNDM."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from tiny_base import CHANNELS, SIDE, same, state, write_base

from iddmbench.datasets.orl import ORL
from iddmbench.errors import UserError
from iddmbench.faces.attributes import FRAMINGS, LIGHTS, POSES
from iddmbench.faces.detect import YuNet
from iddmbench.models.base import BaseModel, load_base
from iddmbench.models.recipe import LoraSettings, Sampling
from iddmbench.personalize.adapter import adapter, read_weights, write_weights
from iddmbench.personalize.captions import caption_photos
from iddmbench.personalize.sample import class_latents, generate, sample_latents, starting_noise, to_images
from iddmbench.personalize.trainer import PersonalizedModel, Trainer, denoising_loss
from iddmbench.photos.references import crop_references
from iddmbench.seeds import Seeds

PROMPTS = ["a photo of sks person", "a photo of person"]
SAMPLING = Sampling(steps=2, guidance=2.0)
LATENTS = (CHANNELS, SIDE // 2, SIDE // 2)


@pytest.fixture(scope="module", params=["v_prediction", "epsilon"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = tmp_path_factory.mktemp("base")
    # The second has no recipe of its own: Stable Diffusion's defaults apply.
    return load_base(str(write_base(folder, request.param, {} if request.param == "epsilon" else None)))


@contextmanager
def saving(base: BaseModel, level: int) -> Iterator[None]:
    base.save_memory(level)
    try:
        yield
    finally:
        base.save_memory(0)


def settings(**changes: object) -> LoraSettings:
    values = {"rank": 4, "alpha": 4, "steps": 4, "learning_rate": 1e-2, "prior_batch": 1, "class_images": 2}
    return LoraSettings.model_validate(values | changes)


def latents(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *LATENTS, generator=Seeds(seed).child("latents").torch())


def instance(base: BaseModel, count: int = 3) -> torch.Tensor:
    return base.embed_text(["a photo of sks person"] * count)


def train(base: BaseModel, seed: int = 0, steps: int = 3, **changes: object) -> PersonalizedModel:
    with Trainer(base, settings(**changes), latents(2, 9), Seeds(seed)) as trainer:
        trainer.train(latents(3), instance(base), steps)
        return trainer.model()


def predict(base: BaseModel, unet: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return unet(latents(2), torch.tensor([10, 700]), base.embed_text(PROMPTS)).sample.clone()


def test_a_fresh_adapter_changes_nothing(base: BaseModel) -> None:
    before = predict(base, base.unet)
    with adapter(base, settings(), torch.Generator().manual_seed(1)) as unet:
        # Exactly the base: B is zero, and adding zero is exact.
        assert torch.equal(predict(base, unet), before)
        assert any("lora" in name for name, _ in unet.named_parameters())
    assert torch.equal(predict(base, base.unet), before)


def test_training_leaves_the_base_as_it_was(base: BaseModel) -> None:
    before = state(base)
    model = train(base)
    assert same(state(base), before)
    assert not any(p.requires_grad for p in base.unet.parameters())
    assert model.weights and any(w.abs().max() > 0 for key, w in model.weights.items() if "lora_B" in key)


def test_the_adapter_goes_even_if_training_raises(base: BaseModel) -> None:
    before = state(base)
    with pytest.raises(RuntimeError, match="stopped"), Trainer(base, settings(), latents(2), Seeds(0)):
        raise RuntimeError("stopped")
    assert same(state(base), before)
    train(base)  # a second adapter fits: the first has left nothing behind


def test_read_and_write_give_the_same_images(base: BaseModel) -> None:
    with Trainer(base, settings(), latents(2, 9), Seeds(0)) as trainer:
        trainer.train(latents(3), instance(base), 3)
        model = trainer.model()
        trained = predict(base, trainer.unet)
        repeated, noise = starting_noise(base, Seeds(5), PROMPTS, 2)
        images = to_images(base, sample_latents(base, trainer.unet, repeated, noise, SAMPLING))
    with adapter(base, model.settings, torch.Generator().manual_seed(77)) as unet:
        write_weights(unet, model.weights or {})
        assert torch.equal(predict(base, unet), trained)
        assert all(torch.equal(read_weights(unet)[k], w) for k, w in (model.weights or {}).items())
    again = generate(base, model, PROMPTS, 2, SAMPLING, Seeds(5))
    assert again.shape == (4, SIDE, SIDE, 3) and again.dtype == np.uint8
    assert np.array_equal(again, images)
    assert not np.array_equal(
        again, generate(base, PersonalizedModel(None, settings()), PROMPTS, 2, SAMPLING, Seeds(5))
    )


def test_same_seeds_same_weights_others_differ(base: BaseModel) -> None:
    first, second, other = (train(base, seed).weights or {} for seed in (0, 0, 1))
    torch.manual_seed(123)  # the global state plays no part
    assert same(first, second) and same(first, train(base, 0).weights or {})
    assert not same(first, other)


def test_steps_may_be_split(base: BaseModel) -> None:
    """Defenses interleave training with their own steps: 1 + 2 steps are 3 steps."""
    whole = train(base).weights or {}
    with Trainer(base, settings(), latents(2, 9), Seeds(0)) as trainer:
        trainer.train(latents(3), instance(base), 1)
        trainer.train(latents(3), instance(base), 2)
        assert trainer.done == 3
        assert same(trainer.model().weights or {}, whole)


def test_one_image_is_learned(base: BaseModel) -> None:
    changes: dict[str, object] = {
        "rank": 16,
        "alpha": 32,
        "steps": 400,
        "batch_size": 2,
        "prior_weight": 0,
        "learning_rate": 2e-2,
    }
    changes["targets"] = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"]
    image = latents(1)

    def error(unet: torch.nn.Module) -> float:
        with torch.no_grad():
            many = image.expand(32, -1, -1, -1)
            return denoising_loss(base, unet, many, instance(base, 1), Seeds(3).torch()).mean().item()

    with Trainer(base, settings(**changes), latents(2, 9), Seeds(0)) as trainer:
        before = error(trainer.unet)
        trainer.train(image, instance(base, 1), 30)
        after = error(trainer.unet)
    assert after < 0.9 * before


def test_the_loss_is_diffusers_own(base: BaseModel) -> None:
    """The same draws, put together from the scheduler's own functions."""
    clean, condition = latents(3), base.embed_text(PROMPTS[:1])
    with torch.no_grad():
        found = denoising_loss(base, base.unet, clean, condition, torch.Generator().manual_seed(4))
        generator = torch.Generator().manual_seed(4)
        noise = torch.randn(clean.shape, generator=generator)
        t = torch.randint(0, base.scheduler.config.num_train_timesteps, (3,), generator=generator)
        noisy = base.scheduler.add_noise(clean, noise, t)
        predicted = base.unet(noisy, t, condition.expand(3, -1, -1)).sample
        alpha = base.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
        if base.scheduler.config.prediction_type == "epsilon":
            target = noise
        else:
            target = base.scheduler.get_velocity(clean, noise, t)
            torch.testing.assert_close(target, alpha.sqrt() * noise - (1 - alpha).sqrt() * clean)
    torch.testing.assert_close(found, ((predicted - target) ** 2).flatten(1).mean(1))
    torch.testing.assert_close(noisy, alpha.sqrt() * clean + (1 - alpha).sqrt() * noise)


def test_gradients_reach_the_latents(base: BaseModel) -> None:
    clean = latents(2).requires_grad_(True)
    with Trainer(base, settings(), latents(2, 9), Seeds(0)) as trainer:
        trainer.denoising_loss(clean, instance(base, 1), Seeds(1).torch()).backward()
    assert clean.grad is not None and clean.grad.abs().amax((1, 2, 3)).min() > 0


def test_unknown_target_modules(base: BaseModel) -> None:
    before = state(base)
    with (
        pytest.raises(UserError, match="LoRA does not fit base"),
        adapter(base, settings(targets=["to_nowhere"]), torch.Generator()),
    ):
        pass
    assert same(state(base), before)
    train(base)


@pytest.mark.parametrize("kind", ["rank", "keys"])
def test_an_adapter_of_another_model(base: BaseModel, kind: str) -> None:
    weights = train(base).weights or {}
    if kind == "rank":
        weights = train(base, rank=2).weights or {}
    else:
        weights = {key.replace("down_blocks.1", "down_blocks.7"): value for key, value in weights.items()}
    with (
        pytest.raises(UserError, match="adapter does not fit this base model"),
        adapter(base, settings(), torch.Generator()) as unet,
    ):
        write_weights(unet, weights)


def test_divergence_is_told(base: BaseModel) -> None:
    with (
        Trainer(base, settings(), latents(2, 9), Seeds(0)) as trainer,
        pytest.raises(FloatingPointError, match="diverged at step 0"),
    ):
        trainer.train(latents(3) * float("nan"), instance(base), 2)


def test_noise_depends_on_seeds_prompt_and_index_only(base: BaseModel) -> None:
    """So that every defense is judged on the same noise, whatever else is generated."""
    seeds = Seeds(0).child("generate", "s29")
    prompts, noise = starting_noise(base, seeds, PROMPTS, 3)
    assert prompts == [PROMPTS[0]] * 3 + [PROMPTS[1]] * 3 and noise.shape == (6, *LATENTS)
    _, fewer = starting_noise(base, seeds, PROMPTS[1:], 2)
    assert torch.equal(fewer, noise[3:5])
    _, other = starting_noise(base, Seeds(0).child("generate", "s30"), PROMPTS, 3)
    assert not torch.equal(other, noise)
    flat = noise.flatten(1)
    assert torch.corrcoef(flat).fill_diagonal_(0).abs().max() < 0.1  # no two images share it
    assert abs(float(flat.std()) - 1) < 0.05


def test_samples_are_the_pipelines_own(base: BaseModel) -> None:
    """Prompts as text through a plain StableDiffusionPipeline call give the same latents."""
    prompts, noise = starting_noise(base, Seeds(0), PROMPTS, 2)
    pipeline = StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=base.unet,
        scheduler=DPMSolverMultistepScheduler.from_config(base.scheduler.config, algorithm_type="dpmsolver++"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    own = pipeline(
        prompts,
        latents=noise,
        num_inference_steps=SAMPLING.steps,
        guidance_scale=SAMPLING.guidance,
        output_type="latent",
    ).images
    found = sample_latents(base, base.unet, prompts, noise, SAMPLING)
    torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-4)
    # The batch bounds memory and nothing else.
    for level in (1, 2):
        with saving(base, level):
            torch.testing.assert_close(sample_latents(base, base.unet, prompts, noise, SAMPLING), found)


def test_images_are_the_pipelines_own(base: BaseModel) -> None:
    z = latents(3) * 0.5
    with torch.no_grad():
        decoded = base.vae.decode(z / base.vae.config.scaling_factor).sample
    expected = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    with saving(base, 2):
        assert np.array_equal(to_images(base, z), expected)


def test_class_latents_are_the_base_alone(base: BaseModel) -> None:
    found = class_latents(base, 2, SAMPLING, Seeds(0))
    prompts, noise = starting_noise(base, Seeds(0), [base.recipe.prompts.class_], 2)
    assert torch.equal(found, sample_latents(base, base.unet, prompts, noise, SAMPLING))


def test_encode_is_the_posterior_mean(base: BaseModel) -> None:
    x = torch.rand(2, 3, SIDE, SIDE, generator=Seeds(0).torch())
    with torch.no_grad():
        expected = base.vae.encode(2 * x - 1).latent_dist.mode() * base.vae.config.scaling_factor
        assert torch.equal(base.encode(x), expected)


def test_the_base_folder_is_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown base model 'mikro'"):
        load_base("mikro")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="can't be loaded"):
        load_base(str(tmp_path / "empty"))
    folder = write_base(tmp_path / "base")
    (folder / "iddmbench.json").write_text('{"lora": {"rnak": 3}}')
    with pytest.raises(UserError, match="rnak"):
        load_base(str(folder))


def test_captions_say_what_a_photo_shows(base: BaseModel) -> None:
    """By pose, framing and light where the recipe asks for it; a photo without a face has the instance prompt alone."""
    photos = np.stack([crop_references(subject, base, YuNet())[0] for subject in ORL().load().subjects[:2]])
    photos = np.concatenate((photos, np.zeros_like(photos[:1])))
    fixed = base.recipe.prompts
    assert caption_photos(photos, fixed, YuNet()) == [fixed.instance] * 3
    first, second, empty = caption_photos(photos, fixed.model_copy(update={"captions": "attributes"}), YuNet())
    assert empty == fixed.instance
    for caption in (first, second):
        who, pose, framing, light = caption.split(", ")
        assert who == fixed.instance and pose in POSES and framing in FRAMINGS and light in LIGHTS


def test_each_photo_is_trained_under_its_own_text(base: BaseModel) -> None:
    same_text = train(base).weights or {}
    with Trainer(base, settings(), latents(2, 9), Seeds(0)) as trainer:
        trainer.train(latents(3), base.embed_text(["a photo of sks person", *PROMPTS[:1], "bright"]), 3)
        assert not same(trainer.model().weights or {}, same_text)


def trained(base: BaseModel, **changes: object) -> tuple[float, dict[str, torch.Tensor]]:
    """A short training with prior preservation: its loss and the adapter."""
    s = settings(batch_size=3, prior_batch=2, learning_rate=1e-3, **changes)
    with Trainer(base, s, latents(2, 1), Seeds(0)) as trainer:
        loss = trainer.train(latents(3), instance(base), s.steps)
        return loss, trainer.model().weights  # type: ignore[return-value]


@pytest.mark.parametrize("level", [1, 2])
def test_saving_memory_changes_rounding_only(base: BaseModel, level: int) -> None:
    """Gradients summed over parts of the batch are those of the whole batch, prior preservation included."""
    loss, weights = trained(base)
    with saving(base, level):
        assert base.unet.is_gradient_checkpointing and base.batch(16) == (4, 1)[level - 1] and base.batch(3) == 1
        sparing, others = trained(base)
    assert not base.unet.is_gradient_checkpointing and base.batch(16) == 16
    assert sparing == pytest.approx(loss, rel=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, atol=2e-4, rtol=0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_trains_nearly_alike(base: BaseModel, precision: str) -> None:
    half = load_base(base.name, precision=precision)
    assert half.fingerprint == base.fingerprint and half.precision == precision
    x = torch.rand(2, 3, SIDE, SIDE, generator=Seeds(0).torch())
    with torch.no_grad():
        exact, rough = base.encode(x), half.encode(x)
        assert rough.dtype == torch.float32 and not torch.equal(exact, rough)
        torch.testing.assert_close(rough, exact, atol=0.1, rtol=0.1)
        assert half.decode(exact).dtype == torch.float32
    (loss, weights), (other, others) = trained(base), trained(half)
    assert other == pytest.approx(loss, rel=0.05) and other != loss
    moved = [n for n in weights if "lora_B" in n]
    assert all(others[n].dtype == torch.float32 and others[n].abs().max() > 0 for n in moved)
    images = generate(half, PersonalizedModel(others, settings()), PROMPTS, 1, SAMPLING, Seeds(0))
    assert images.dtype == np.uint8 and images.shape == (2, SIDE, SIDE, 3)
