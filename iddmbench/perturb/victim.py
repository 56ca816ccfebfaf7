"""The victim: the model that the defense expects somebody to personalize on the photos, and trains itself to attack.

The papers call it the surrogate model; here "surrogate" is a face-recognition system, as everywhere in this package.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from iddmbench.models.base import BaseModel
from iddmbench.personalize.trainer import Denoising, denoise


@dataclass(frozen=True)
class Training:
    """How a victim is trained: AdamW, started anew at every call, as the official code of Anti-DreamBooth does.

    rate: learning rate; decay: AdamW's weight decay; clip: largest gradient norm, 0 = not clipped; text_encoder: train it too;
    prior: weight of the prior-preservation loss, 0 = off; half: weights are rounded to bfloat16 after each step.
    """

    rate: float
    decay: float = 1e-2
    clip: float = 1.0
    text_encoder: bool = True
    prior: float = 1.0
    half: bool = False


class Victim:
    """A UNet and a text encoder of its own, on a base whose VAE, tokenizer and schedule it shares; fp32 weights.

    Args:
        texts: the captions of the photos that are perturbed, one for each.
        class_latents: float [M, C, h, w] for prior preservation; empty turns it off.
    """

    def __init__(self, base: BaseModel, texts: list[str], class_latents: Tensor):
        self.base, self.class_latents = base, class_latents.to(base.device)
        self.texts, self.tokens = texts, base.tokens(texts)
        self.class_tokens = base.tokens([base.recipe.prompts.class_])
        self.unet: nn.Module = copy.deepcopy(base.unet)
        self.text_encoder: nn.Module = copy.deepcopy(base.text_encoder)
        self.done = 0

    def copy(self) -> "Victim":
        twin = copy.copy(self)
        twin.unet, twin.text_encoder = copy.deepcopy(self.unet), copy.deepcopy(self.text_encoder)
        return twin

    def latents(self, x: Tensor) -> Tensor:
        """Photos [N, 1 or 3, S, S] in [-1, 1] -> scaled latents, differentiable."""
        return self.base.encode_signed(x.expand(-1, 3, -1, -1))

    def condition(self, tokens: Tensor) -> Tensor:
        return self.text_encoder(tokens).last_hidden_state

    def view(self, x: Tensor, generator: torch.Generator) -> Denoising:
        """The UNet's view of the photos x, one for each text, at fresh noise and timesteps, drawn in that order."""
        latents = self.latents(x)
        noise = torch.randn(latents.shape, generator=generator)
        t = self.draw_timesteps(len(x), generator)
        return self.denoise(latents, self.condition(self.tokens), noise, t)

    def denoise(self, latents: Tensor, condition: Tensor, noise: Tensor, t: Tensor) -> Denoising:
        return denoise(self.base, self.unet, latents, condition, noise, t)

    def draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        last = self.base.scheduler.config.num_train_timesteps
        return torch.randint(0, last, (count,), generator=generator)

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The denoising loss on photos x, its mean over them: what FSMG, ASPL and AdvDM raise."""
        return self.view(x, generator).error().mean()

    def train(self, x: Tensor, texts: list[str], steps: int, training: Training, generator: torch.Generator) -> None:
        """`steps` DreamBooth steps on photos x [N, C, S, S] with N texts, each on the next photo in turn and one class image.

        Raises FloatingPointError when the loss is not finite.
        """
        weights = [*self.unet.parameters(), *(self.text_encoder.parameters() if training.text_encoder else ())]
        for weight in weights:
            weight.requires_grad_(True)
        optimizer = torch.optim.AdamW(weights, lr=training.rate, weight_decay=training.decay)
        with torch.no_grad():
            photos, captions = self.latents(x), self.base.tokens(texts)
        prior = training.prior if len(self.class_latents) else 0.0
        for _ in range(steps):
            i = self.done % len(photos)
            batch, tokens = photos[i : i + 1], captions[i : i + 1]
            if prior:
                j = self.done % len(self.class_latents)
                batch = torch.cat((batch, self.class_latents[j : j + 1]))
                tokens = torch.cat((tokens, self.class_tokens))
            noise = torch.randn(batch.shape, generator=generator)
            t = self.draw_timesteps(len(batch), generator)
            error = self.denoise(batch, self.condition(tokens), noise, t).error()
            loss = error[0] + prior * error[1:].sum()
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the victim's training diverged at step {self.done}: loss is {loss.item()}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if training.clip:
                nn.utils.clip_grad_norm_(weights, training.clip)
            optimizer.step()
            if training.half:
                with torch.no_grad():
                    for weight in weights:
                        weight.copy_(weight.bfloat16())
            self.done += 1
        for weight in weights:
            weight.requires_grad_(False)
            weight.grad = None
