"""IDDM: identity-decoupled personalization with a tunable privacy-utility trade-off.

Our reconstruction from the abstract of arXiv 2604.00903: short personalization updates alternate with an optimization of
the training data that takes the identity out of it, on a two-stage schedule.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from iddmbench.defense import Defense, ExtraPhotos, Names, Personalization, Workbench
from iddmbench.nets.efficientnet import EfficientNetLite0
from iddmbench.nets.surrogate import Surrogate
from iddmbench.personalize.trainer import Trainer

TEXTURE: dict[str, Any] = {"surrogate": ("sface", "dlib", "lbph:part=inner"), "balance": True}
"""Preset: local patterns of the inner face beside the two networks."""
TEXTURES: dict[str, Any] = {"surrogate": (*TEXTURE["surrogate"], "gabor"), "balance": True}
"""Preset: wavelets of the inner face beside these, as one way to read texture does not stand for another."""


@dataclass(frozen=True)
class Target:
    """One surrogate with what the data optimization needs of it.

    matrices: crop transforms of the references, fixed from the clean photos; template: the subject's unit vector [D];
    impostor: mean cosine of public people to the template; span: what the clean references lie above that;
    decoy: the unit vector to move toward [D], or one for each photo [N, D], or None; spread: standard deviation of public
    people's scores on the relative scale.
    """

    surrogate: Surrogate
    matrices: Tensor
    template: Tensor
    impostor: float
    span: float
    decoy: Tensor | None
    spread: float

    def relative(self, cosine: Tensor) -> Tensor:
        """0 at the impostors' mean, 1 at the clean references': recognition systems differ in scale by a factor of ten."""
        return (cosine - self.impostor) / self.span


class IDDM(Defense):
    """Alternating personalization and identity-decoupled data optimization, in the VAE's latent space.

    For each of R rounds: (1) a share of the LoRA steps on the current references X'; (2) `data_steps` Adam steps on
    X' = X + delta, |delta| <= eps, on

        L = lambda_id * sum_k relu(c_k(x') - m) + lambda_util * D(x', x) + lambda_dm * L_denoise(x'; phi)

    with c_k the cosine between f_k(align(decode(x'))) and e_k on the scale where public people have mean 0 and the clean
    references mean 1, e_k the normalized mean embedding of the clean references under surrogate f_k, and D a perceptual
    distance of EfficientNet-Lite0 features plus the difference of 8-fold reduced images. Rounds up to `suppress` * R grow
    eps to its full value; later rounds hold the margin with a smaller lambda_id, a larger lambda_util and a lower rate. What
    is left of the LoRA steps is spent on the final X'.
    `strength` s sets eps = s * eps_max, lambda_id = s * lambda_id_max and m = (1 - s) * 1 + s * margin.

    `aim=strangers` aims at the distribution of strangers' scores instead of far below them: with sigma_k the standard deviation
    of public people's scores under surrogate k, m = (1 - s) * 1 + s * width * sigma_k, and the loss has a second hinge
    relu(-width * sigma_k - c_k(x')), so that the right person is not marked by the lowest score.

    `balance` gives every surrogate the same say, whatever its scale: with g_ki the gradient of surrogate k's loss with respect
    to reference image i, the sum over k of g_ki is replaced by

        l_i * sum_k g_ki / |g_ki|,   l_i the mean of those |g_ki| that are not 0

    where a surrogate whose loss is 0 adds nothing, and one alone is left as it is. It lets texture (`lbph:part=inner`) stand
    beside networks, whose gradients its own would drown.
    """

    name = "iddm"
    title = "IDDM (our reconstruction from the abstract and the outline of v2)"
    paper = "arXiv 2604.00903"
    text_training = True
    newer = frozenset({"aim", "width", "alternate", "space", "pixel_eps", "diversity", "balance"})
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "sface-overshoot": {"surrogate": ("sface",), "margin": -0.6},
        "two-surrogates": {"surrogate": ("sface", "dlib"), "margin": -0.1},
        # which does not use the margin: it stands here because the keys of finished cells hold it
        "strangers": {"surrogate": ("sface", "dlib"), "margin": -0.6, "aim": "strangers"},
        "texture": TEXTURE,
        "textures": TEXTURES,
    }

    surrogate: Names = Field(("sface", "dlib"), min_length=1, description="face-recognition systems to decouple from")
    mode: Literal["untargeted", "targeted"] = Field("untargeted", description="move away, or toward a decoy identity")
    rounds: int = Field(8, ge=1, description="alternations R")
    suppress: float = Field(0.6, gt=0, le=1, description="share of the rounds that suppress; the rest recover")
    data_steps: int = Field(10, ge=1, description="data optimization steps per round")
    data_rate: float = Field(0.05, gt=0, description="Adam's rate on the latents; a fifth of it in the recovery stage")
    eps: float = Field(1.0, gt=0, description="l_inf bound on unit-variance latents at strength 1")
    margin: float = Field(
        -0.1, le=1, description="hinge margin m at strength 1; 0 = impostors' mean, 1 = clean references"
    )
    lambda_id: float = Field(4.0, ge=0, description="weight of the identity loss at strength 1, suppression stage")
    lambda_util: float = Field(0.3, ge=0, description="weight of the utility distance D, suppression stage")
    lambda_dm: float = Field(0.5, ge=0, description="weight of the denoising loss under the current adapter")
    recovery: float = Field(
        3.0, gt=0, description="the recovery stage divides lambda_id and multiplies lambda_util by it"
    )
    jitter: float = Field(0.06, ge=0, description="random shift and scale of the face crop, as a share of its side")
    aim: Literal["margin", "strangers"] = Field(
        "margin", description="below a margin, or within the distribution of strangers' scores"
    )
    width: float = Field(1.0, ge=0, description="with aim=strangers: how far around their mean, in standard deviations")
    alternate: bool = Field(True, description="alternate with the personalization; false: change all data before it")
    space: Literal["latent", "pixel"] = Field("latent", description="where the references are changed")
    pixel_eps: float = Field(
        16 / 255, gt=0, le=1, description="l_inf bound at strength 1 in pixels in [0, 1], with space=pixel"
    )

    diversity: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the photos that a surrogate sees coarser in a step, half of them mirrored",
    )

    balance: bool = Field(
        False, description="scale the surrogates' gradients to one length for each photo before they are added"
    )

    decoupling: ClassVar["type[Decoupling]"]
    """Set below: what changes the data."""

    def surrogates(self) -> tuple[str, ...]:
        return self.surrogate

    def judges(self) -> tuple[str, ...]:
        return ("efficientnet_lite0",)

    def extra_photos(self) -> tuple[ExtraPhotos, ...]:
        return ("decoys",) if self.aim == "margin" else ("decoys", "strangers")

    def personalize(self, references: np.ndarray, bench: Workbench) -> Personalization:
        if self.strength == 0:
            return bench.personalize(references)
        decoupling = self.decoupling(self, references, bench)
        delta, condition = decoupling.unchanged(), decoupling.condition
        trace = []
        steps = np.diff(np.linspace(0, bench.lora.steps, self.rounds + 2).round().astype(int))
        if not self.alternate:
            steps = np.array([0] * self.rounds + [bench.lora.steps])
        with bench.trainer() as trainer:
            for r in range(self.rounds):
                loss = trainer.train(decoupling.changed(delta), condition, int(steps[r]))
                delta, figures = decoupling.optimize(delta, r, trainer)
                trace.append({"round": r, "personalization": loss, **figures})
                bench.tick((r + 1) / (self.rounds + 1))
            trainer.train(decoupling.changed(delta), condition, int(steps[-1]))
            model = trainer.model()
        return Personalization(model, {"decoupled references": decoupling.images(delta)}, trace)


class Decoupling:
    """The data side of IDDM for one subject."""

    def __init__(self, config: IDDM, references: np.ndarray, bench: Workbench):
        self.config, self.bench, self.references = config, bench, references
        photos = self.photos()
        self.clean, self.condition = bench.encode(photos), bench.text(photos)
        self.features = EfficientNetLite0(map_size=64).to(bench.base.device)
        self.pixels = pixels = bench.pixels(photos)
        with torch.no_grad():
            decoded = pixels if config.space == "pixel" else bench.base.decode(self.clean).clamp(0, 1)
            self.clean_maps = self.features.feature_maps(decoded)
            self.clean_coarse = F.avg_pool2d(decoded, 8)
        self.targets = [self._target(name) for name in config.surrogate]
        s = config.strength
        bound = config.pixel_eps if config.space == "pixel" else config.eps
        self.eps, self.lambda_id, self.margin = s * bound, s * config.lambda_id, (1 - s) + s * config.margin
        self.rate = config.data_rate * bound / config.eps

    def photos(self) -> np.ndarray:
        """What the optimization starts from, uint8 [N, S, S, 3], with faces where the references have them."""
        return self.references

    def optimize(self, delta: Tensor, r: int, trainer: Trainer) -> tuple[Tensor, dict[str, float]]:
        """One round's data steps from `delta` [N, C, h, w]; returns the new one and the last step's loss terms."""
        c = self.config
        last = max(1, round(c.suppress * c.rounds))
        suppressing = r < last
        eps = self.eps * min(1.0, (r + 1) / last)
        factor = 1.0 if suppressing else c.recovery
        rate = self.rate if suppressing else self.rate / 5
        delta = delta.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([delta], lr=rate)
        figures = {}
        for step in range(c.data_steps):
            generator = self.bench.seeds.child("data", r, step).torch()
            latents, images = self.parts(delta)
            identity, cosine = self.identity(images, generator)
            distance = self._distance(images)
            denoise = trainer.denoising_loss(latents, self.condition, generator) if c.lambda_dm else torch.zeros(())
            loss = self.lambda_id / factor * identity + c.lambda_util * factor * distance + c.lambda_dm * denoise
            (delta.grad,) = torch.autograd.grad(loss, delta)
            optimizer.step()
            with torch.no_grad():
                delta.clamp_(-eps, eps)
            figures = {
                "identity": identity.item(),
                "cosine": cosine,
                "distance": distance.item(),
                "denoising": denoise.item(),
            }
        return delta.detach(), figures

    def unchanged(self) -> Tensor:
        """The change that is none: of latents [N, C, h, w], or of pixels [N, 3, S, S]."""
        return torch.zeros_like(self.pixels if self.config.space == "pixel" else self.clean)

    def parts(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """The changed references as latents [N, C, h, w] and as images [N, 3, S, S]."""
        if self.config.space == "pixel":
            images = (self.pixels + delta).clamp(0, 1)
            return self.bench.base.encode(images), images
        latents = self.clean + delta
        return latents, self.bench.base.decode(latents)

    def changed(self, delta: Tensor) -> Tensor:
        """The changed references' latents [N, C, h, w]."""
        if self.config.space == "latent":
            return self.clean + delta
        with torch.no_grad():
            return self.bench.base.encode((self.pixels + delta).clamp(0, 1))

    def images(self, delta: Tensor) -> np.ndarray:
        """The decoupled references as uint8 [N, S, S, 3]."""
        with torch.no_grad():
            x = self.parts(delta)[1].clamp(0, 1)
        return (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    def identity(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
        """Identity loss summed over surrogates, mean over images, and the mean relative cosine to the subject.

        With `balance` its value is the same, and its gradient with respect to the images is `balanced`.
        """
        seen = images.detach().requires_grad_(True) if self.config.balance else images
        losses, cosines = [], []
        for target in self.targets:
            parts, cosine = self._losses(target, seen, generator)
            losses.append(torch.stack(parts).sum())
            cosines.append(cosine)
        loss = torch.stack(losses).sum()
        if self.config.balance:
            step = balanced(torch.stack([torch.autograd.grad(part, seen)[0] for part in losses]))
            loss = loss.detach() + ((images - images.detach()) * step).sum()
        return loss, float(np.mean(cosines))

    def _losses(self, target: Target, images: Tensor, generator: torch.Generator) -> tuple[list[Tensor], float]:
        """One surrogate's identity losses, means over images, and its mean relative cosine to the subject."""
        size = target.surrogate.network.size
        matrices = jittered(target.matrices, self.config.jitter, size, generator)
        seen = images
        if self.config.diversity:
            seen, matrices = diverse(images, matrices, self.config.diversity, size, generator)
        vectors = target.surrogate.embed(seen, matrices)
        own = target.relative(vectors @ target.template)
        losses = [self._away(target, own)]
        if target.decoy is not None:
            losses.append(self._toward(target, vectors))
        return losses, own.mean().item()

    def _away(self, target: Target, own: Tensor) -> Tensor:
        """Loss of the relative cosines [N] to the subject."""
        if self.config.aim == "margin":
            return F.relu(own - self.margin).mean()
        s, band = self.config.strength, self.config.width * target.spread
        return (F.relu(own - ((1 - s) + s * band)) + F.relu(-band - own)).mean()

    def _toward(self, target: Target, vectors: Tensor) -> Tensor:
        """Loss of the distance of unit vectors [N, D] to the decoy."""
        assert target.decoy is not None
        return (1 - vectors @ target.decoy).mean() / target.span

    def _distance(self, images: Tensor) -> Tensor:
        perceptual = self.features.map_distance(self.features.feature_maps(images), self.clean_maps).mean()
        return perceptual + F.l1_loss(F.avg_pool2d(images, 8), self.clean_coarse)

    def _target(self, name: str) -> Target:
        surrogate = self.bench.surrogate(name)
        matrices = surrogate.prepare(list(self.references))
        with torch.no_grad():
            clean = surrogate.embed(self.bench.pixels(self.references), matrices)
            template = F.normalize(clean.mean(0), dim=0)
            people = self._people(surrogate)
            impostor = (people @ template).mean().item()
            span = (clean @ template).mean().item() - impostor
            spread = (people @ template).std().item() / span
        decoy = None
        if self.config.mode == "targeted":
            decoy = self._decoy(surrogate, template, people)
        return Target(surrogate, matrices, template, impostor, span, decoy, spread)

    def _people(self, surrogate: Surrogate) -> Tensor:
        """Unit vectors [M, D] of public people, one photo each."""
        return surrogate.each_template(self.bench.decoys if self.config.aim == "margin" else self.bench.strangers)

    def _decoy(self, surrogate: Surrogate, template: Tensor, people: Tensor) -> Tensor:
        """Mean of several public people's templates: an identity that nobody has."""
        return surrogate.template(list(self.bench.decoys))


IDDM.decoupling = Decoupling


def balanced(gradients: Tensor) -> Tensor:
    """Sum of surrogates' gradients [K, N, ...], each image's scaled to one length: the mean of those that are not 0."""
    length = gradients.flatten(2).norm(dim=2)  # [K, N]
    active = length > 0
    common = length.sum(0) / active.sum(0).clamp(min=1)
    scale = torch.where(active, common / length.clamp(min=1e-30), 0)
    return (gradients * scale.view(*scale.shape, *[1] * (gradients.ndim - 2))).sum(0)


COARSEST = 0.5
"""Of the resolution, what input diversity leaves at least."""


def diverse(
    images: Tensor, matrices: Tensor, share: float, side: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Input diversity, against gradients that only one network follows (random resizing as in DI-FGSM, arXiv 1803.06978, with a
    mirror image for the padding, which alignment would undo): images [N, 3, S, S] and crop transforms [N, 2, 3] of them.

    Each image is drawn with chance `share`. Those drawn are reduced to one random resolution, from COARSEST on, and enlarged
    again; half of them are mirrored in their crop of `side` pixels.
    """
    draws = torch.rand((2, len(images)), generator=generator).to(images)
    scale = COARSEST + (1 - COARSEST) * torch.rand(1, generator=generator).item()
    drawn, mirrored = draws[0] < share, (draws[0] < share) & (draws[1] < 0.5)
    full = images.shape[-1]
    small = F.interpolate(images, size=max(1, round(scale * full)), mode="bilinear", antialias=True)
    coarse = F.interpolate(small, size=full, mode="bilinear")
    turned = matrices.clone()
    turned[:, 0] = -turned[:, 0]
    turned[:, 0, 2] += side - 1
    seen = torch.where(drawn[:, None, None, None], coarse, images)
    return seen, torch.where(mirrored.to(matrices.device)[:, None, None], turned, matrices)


def jittered(matrices: Tensor, amount: float, side: int, generator: torch.Generator) -> Tensor:
    """Crop transforms [N, 2, 3] moved by up to `amount` of the crop's side and scaled by up to 1 +- amount."""
    if amount == 0:
        return matrices
    n = len(matrices)
    draw = (torch.rand((n, 3), generator=generator) * 2 - 1).to(matrices) * amount
    scale = (1 + draw[:, :1])[:, :, None]
    shift = draw[:, 1:, None] * side + (1 - scale) * side / 2
    return torch.cat((matrices[:, :, :2] * scale, matrices[:, :, 2:] * scale + shift), 2)
