"""DreamBooth training of a LoRA adapter, in steps that a defense can interleave with its own."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel
from iddmbench.models.placeholder import Placeholder
from iddmbench.models.recipe import TrainingSettings
from iddmbench.personalize.adapter import LoraLayer, adapter, read_weights, trainable
from iddmbench.personalize.optimizer import adamw
from iddmbench.seeds import Seeds


@dataclass(frozen=True)
class PersonalizedModel:
    """A base model with one subject's adapter; None is the base itself.

    weights: adapter tensors by name; settings: what the adapter was built with. Of a model that was trained elsewhere also
    layers: rank and alpha by module, where they are not the same everywhere; replaced: weights that stand in for the base's
    own, by part and name ("text_encoder.encoder.layers.0.mlp.fc1.weight"). placeholder: a word of its own.
    """

    weights: dict[str, Tensor] | None
    settings: TrainingSettings
    layers: Mapping[str, LoraLayer] = field(default_factory=dict)
    replaced: Mapping[str, Tensor] = field(default_factory=dict)
    placeholder: Placeholder | None = None


@dataclass(frozen=True)
class Denoising:
    """One pass of the UNet over noised latents: timesteps t [N]; noise, noisy, predicted, target float [N, C, h, w]."""

    t: Tensor
    noise: Tensor
    noisy: Tensor
    predicted: Tensor
    target: Tensor

    def error(self) -> Tensor:
        """DreamBooth's loss (Eq. 1, arXiv 2208.12242) of each image: float [N]."""
        return (self.predicted - self.target).square().mean((1, 2, 3))


def denoise(
    base: BaseModel, unet: nn.Module, latents: Tensor, condition: Tensor, noise: Tensor, t: Tensor
) -> Denoising:
    """Noise latents [N, C, h, w] to timesteps t [N] and let `unet` predict under `condition` [1 or N, tokens, width].

    The target is the noise or the velocity, whichever the base predicts.
    """
    noise, t = noise.to(latents.device), t.to(latents.device)
    noisy = base.scheduler.add_noise(latents, noise, t)
    noisy_ = noisy.to(memory_format=torch.channels_last)
    with base.autocast():
        predicted = unet(noisy_, t, condition.expand(len(latents), -1, -1)).sample.float()
    velocity = base.scheduler.config.prediction_type == "v_prediction"
    target = base.scheduler.get_velocity(latents, noise, t) if velocity else noise
    return Denoising(t, noise, noisy, predicted, target)


def denoising_loss(
    base: BaseModel, unet: nn.Module, latents: Tensor, condition: Tensor, generator: torch.Generator
) -> Tensor:
    """DreamBooth's loss at fresh noise and timesteps, drawn in that order.

    Args:
        latents: float [N, C, h, w], scaled; gradients flow to them when they require it.
        condition: text embedding [1 or N, tokens, width].
        generator: CPU generator of noise and timesteps.

    Returns: float [N], each image's mean squared error.
    """
    noise, t = draw(base, latents, generator)
    return denoise(base, unet, latents, condition, noise, t).error()


def draw(base: BaseModel, latents: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Fresh noise [N, C, h, w] and timesteps [N] for latents, drawn in that order."""
    noise = torch.randn(latents.shape, generator=generator)
    return noise, torch.randint(0, base.scheduler.config.num_train_timesteps, (len(latents),), generator=generator)


class Trainer:
    """Trains one person's model, here a LoRA adapter. Use as a context manager: it sits on the base's UNet in between.

    A personalizer that trains something else overrides `attached`, `model` and, where they differ, `rate` and `trained`.

    A text is given as its embedding, float [N, tokens, width], or as token ids, int [N, tokens] (`Workbench.text` gives what
    fits). Ids are embedded anew at each step, as they must be where the text encoder is trained too (`settings.trains_text`).

    with Trainer(base, settings, class_latents, seeds) as trainer:
        trainer.train(latents, condition, settings.steps)
        model = trainer.model()
    """

    clip: ClassVar[float | None] = 1.0
    """The largest norm of the gradient; None: it is not clipped."""
    offloads: ClassVar[bool] = False
    """Whether the optimizer's moments are worth moving to CPU memory, where the base is told to save the GPU's."""

    def __init__(self, base: BaseModel, settings: Any, class_latents: Tensor, seeds: Seeds):
        self.base, self.settings, self.seeds = base, settings, seeds
        self.class_latents = class_latents.to(base.device)
        class_ = [base.recipe.prompts.class_]
        self.class_ = base.tokens(class_) if settings.trains_text else base.embed_text(class_)
        self.done = 0

    def attached(self) -> AbstractContextManager[nn.Module]:
        """The base's UNet with what is trained on it, which requires gradients; as it was before, on exit."""
        return adapter(self.base, self.settings, self.seeds.child("init").torch())

    def rate(self) -> float:
        """The learning rate of the next step: by default it falls linearly to a tenth."""
        if getattr(self.settings, "schedule", "linear") == "constant":
            return self.settings.learning_rate
        return self.settings.learning_rate * (1 - 0.9 * min(self.done / self.settings.steps, 1))

    def trained(self) -> list[nn.Parameter]:
        """What is optimized, while the trainer is entered."""
        return trainable(self.unet)

    def __enter__(self) -> "Trainer":
        self._attached = self.attached()
        self.unet = self._attached.__enter__()
        settings, offload = self.settings, self.offloads and "offload" in self.base.memory
        self.optimizer = adamw(settings.optimizer, self.trained(), settings.learning_rate, offload)
        # fp16 has too few exponents for small gradients; elsewhere this does nothing.
        self.scaler = torch.amp.GradScaler(self.base.device.type, enabled=self.base.precision == "fp16")
        return self

    def __exit__(self, *exception: object) -> None:
        self._attached.__exit__(*exception)  # type: ignore[arg-type]

    def train(self, latents: Tensor, condition: Tensor, steps: int) -> float:
        """`steps` optimizer steps on reference latents [N, C, h, w] under their N texts; the mean loss.

        Each step draws `batch_size` references (as evenly as can be) and `prior_batch` class images; both go through the UNet
        in one batch, at the learning rate `rate`.
        Raises FloatingPointError when the loss is not finite, UserError for embeddings where ids are needed.
        """
        self._check_text(condition)
        s, total = self.settings, 0.0
        self.base.put_away("vae", *(() if s.trains_text else ("text_encoder",)))
        latents = latents.detach()
        for _ in range(steps):
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate()
            seeds = self.seeds.child("step", self.done)
            generator = seeds.torch()
            chosen = _draw(len(latents), s.batch_size, generator)
            own = latents[chosen]
            prior = s.prior_batch if s.prior_weight > 0 else 0
            batch = own
            if prior:
                drawn = torch.randint(0, len(self.class_latents), (prior,), generator=generator)
                batch = torch.cat((own, self.class_latents[drawn]))
            text = torch.cat((condition[chosen], self.class_.expand(prior, *self.class_.shape[1:])))
            total += self._step(batch, text, len(own), generator)
            self.done += 1
        return total / max(steps, 1)

    def _step(self, batch: Tensor, text: Tensor, own: int, generator: torch.Generator) -> float:
        """One optimizer step on a batch of which the first `own` are references, in as many parts as memory requires."""
        noise, t = draw(self.base, batch, generator)
        weight = torch.full((len(batch),), 1 / own, device=batch.device)
        weight[own:] = self.settings.prior_weight / max(len(batch) - own, 1)
        self.optimizer.zero_grad(set_to_none=True)
        total, size = 0.0, self.base.batch(len(batch))
        for part in (slice(i, i + size) for i in range(0, len(batch), size)):
            error = denoise(self.base, self.unet, batch[part], self._embed(text[part]), noise[part], t[part]).error()
            loss = (error * weight[part]).sum()
            if not torch.isfinite(loss):
                raise FloatingPointError(f"personalization diverged at step {self.done}: loss is {loss.item()}")
            self.scaler.scale(loss).backward()
            total += loss.item()
        self.scaler.unscale_(self.optimizer)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.trained(), self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return total

    def denoising_loss(self, latents: Tensor, condition: Tensor, generator: torch.Generator) -> Tensor:
        """`denoising_loss` of the current model, its mean, differentiable in the latents; condition: 1 or N texts."""
        self._check_text(condition)
        with torch.no_grad():
            text = self._embed(condition)
        return denoising_loss(self.base, self.unet, latents, text, generator).mean()

    def _embed(self, text: Tensor) -> Tensor:
        """Embeddings of texts, which ids get from the text encoder as it is now; the same ids are embedded once."""
        if text.is_floating_point():
            return text
        different, which = torch.unique(text, dim=0, return_inverse=True)
        with self.base.autocast():
            return self.base.text_encoder(different).last_hidden_state.float()[which]

    def _check_text(self, text: Tensor) -> None:
        if self.settings.trains_text and text.is_floating_point():
            raise UserError(
                "this personalizer trains the text encoder too: train on `bench.text(photos)`, not on `bench.condition(photos)`"
            )

    def model(self) -> PersonalizedModel:
        """What was learned so far, on the CPU."""
        return PersonalizedModel(read_weights(self.unet), self.settings)


def _draw(count: int, size: int, generator: torch.Generator) -> Tensor:
    """`size` indices below `count`: whole permutations in a row, so that a batch holds each about equally often."""
    rounds = -(-size // count)
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(rounds)])[:size]
