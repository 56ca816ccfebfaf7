"""The base class of defense plugins (defenses/), and what a defense works with.

A defense is one class in one file. Its fields are its configuration (`--set name=value`); it overrides one or more of the
points where it may act: `prepare` (the base model), `protect` (the photos), `personalize` (the training), `release` (the
generated images).
"""

from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import PurePath
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from iddmbench.errors import UserError
from iddmbench.faces.detect import Detector
from iddmbench.guards import checked_images, errors_of
from iddmbench.models.base import BaseModel as Base
from iddmbench.models.recipe import TrainingSettings
from iddmbench.nets.surrogate import Surrogate
from iddmbench.options import Names as Names  # defenses import it from here
from iddmbench.options import Options, changed_options, read_options
from iddmbench.personalize.captions import caption_photos
from iddmbench.personalize.lora import Lora
from iddmbench.personalize.personalizer import Personalizer
from iddmbench.personalize.prepared import PREFIX, PreparedBase, base_parameters
from iddmbench.personalize.trainer import PersonalizedModel, Trainer
from iddmbench.registry import Registry
from iddmbench.seeds import Seeds
from iddmbench.types import Subject

ExtraPhotos = Literal["decoys", "strangers", "surrogate_photos"]
Point = Literal["prepare", "protect", "personalize", "release"]
"""Where a defense may act, in the order of a cell's stages."""


@dataclass(frozen=True)
class Personalization:
    """The result of `personalize`.

    Attributes:
        model: the personalized model.
        images: uint8 [N, S, S, 3] by title, for the contact sheet (IDDM: its decoupled references).
        trace: one row of figures per round, for the run's log.
    """

    model: PersonalizedModel
    images: dict[str, np.ndarray] = field(default_factory=dict)
    trace: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Workbench:
    """What a defense gets besides the photos. It holds nothing of the linker: no enrolment photo, no gallery.

    Attributes:
        base: the base model.
        lora: settings of the personalization, the personalizer's own (`LoraSettings` of `lora`).
        class_latents: float [M, C, h, w], for prior preservation.
        seeds: this cell's; draw from `seeds.child("what for")`.
        detector: finds faces, for captions.
        surrogate: loads a face-recognition system by its attacker's name; only those that the defense declares.
        surrogate_photos: uint8 [M, S, S, 3], further clean photos of the subject that only the defense sees
            (Anti-DreamBooth's set A); empty where the dataset sets none aside. Only for a defense that declares them
            (`Defense.extra_photos`), as the decoys.
        decoys: photos of some public people, uint8 images, one of each: their mean is a decoy identity that nobody has, and
            their scores against the subject say what a stranger gets.
        strangers: a photo each of the public people, the same 64 at most in every cell: how strangers' scores are distributed.
        tick: called now and then with the share done, in [0, 1].
        subject: the person's name in the dataset.
        personalizer: what `trainer` and `personalize` train by; a defense need not know which it is.
    """

    base: Base
    lora: TrainingSettings
    class_latents: Tensor
    seeds: Seeds
    detector: Detector
    surrogate: Callable[[str], Surrogate]
    surrogate_photos: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1, 3), np.uint8))
    decoys: Sequence[np.ndarray] = ()
    strangers: Sequence[np.ndarray] = ()
    tick: Callable[[float], None] = lambda share: None
    subject: str = ""
    personalizer: Personalizer = field(default_factory=Lora)

    def encode(self, images: np.ndarray) -> Tensor:
        """uint8 [N, S, S, 3] -> scaled latents [N, C, h, w]."""
        with torch.inference_mode():
            latents = self.base.encode(self.pixels(images))
        return latents.clone()

    def pixels(self, images: np.ndarray) -> Tensor:
        """uint8 [N, S, S, 3] -> float [N, 3, S, S] in [0, 1] on the base's device."""
        return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).to(self.base.device)

    def captions(self, images: np.ndarray) -> list[str]:
        """What reference photos, uint8 [N, S, S, 3], are trained under."""
        return caption_photos(images, self.base.recipe.prompts, self.detector)

    def condition(self, images: np.ndarray) -> Tensor:
        """The base's embeddings of the photos' captions: float [N, tokens, width]."""
        return self.base.embed_text(self.captions(images))

    def text(self, images: np.ndarray) -> Tensor:
        """The photos' captions as a trainer takes them: `condition`, or token ids int [N, tokens] where the text encoder is
        trained too."""
        return self.personalizer.text(self.base, self.lora, self.captions(images))

    def trainer(self) -> Trainer:
        """A fresh model's trainer; seeded alike in every defense, so that they differ by what they do only."""
        return self.personalizer.trainer(self.base, self.lora, self.class_latents, self.seeds.child("trainer"))

    def personalize(self, references: np.ndarray) -> Personalization:
        """Plain personalization, without a defense."""
        latents, condition = self.encode(references), self.text(references)
        trace = []
        with self.trainer() as trainer:
            while trainer.done < self.lora.steps:
                loss = trainer.train(latents, condition, min(10, self.lora.steps - trainer.done))
                trace.append({"step": trainer.done, "loss": loss})
                self.tick(trainer.done / self.lora.steps)
            return Personalization(trainer.model(), trace=trace)


class Undeclared(Sequence[np.ndarray]):
    """Stands where photos are that the defense did not declare. Looking at them raises UserError."""

    def __init__(self, defense: str, field: ExtraPhotos):
        self._message = f"defense '{defense}' uses {field} but does not declare them in `extra_photos()`"

    def __len__(self) -> int:
        raise UserError(self._message)

    def __getitem__(self, index: Any) -> Any:
        raise UserError(self._message)

    def __getattr__(self, name: str) -> Any:
        raise UserError(self._message)


class Defense(Options, ABC):
    """A defense plugin. Subclasses set the class variables, declare fields and override what they change.

    What an overridden `prepare`, `protect`, `personalize` or `release` returns is checked: a UserError names the defense and
    says what is wrong with it, or what it raised.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str] = ""
    version: ClassVar[int] = 1
    """Raised when the algorithm changes: it is part of a cell's key, so stale results are not reused."""
    anchor: ClassVar[bool] = False
    """True for controls without a strength (`none`, `generic`): they run once, not per strength."""
    differentiates: ClassVar[bool] = True
    """Whether it needs gradients of its surrogates; False for one that only looks at their embeddings."""
    text_training: ClassVar[bool] = False
    """Whether `personalize` works where the text encoder is trained too: the trainer then gets `Workbench.text`."""
    reruns: ClassVar[bool] = True
    """Whether an attacker can apply it to other photos of a person (`resimulate`); False where photos are given."""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Options by the name of a preset. The defaults are the preset "paper"; a base's recipe names the one it wants."""
    once: ClassVar[bool] = False
    """Whether `prepare` serves everybody: it runs once per base and seed, without photos or a subject."""
    prompts_only: ClassVar[bool] = False
    """Whether all that `prepare` gives is a prefix of prompts: then the trained models are the undefended ones, and shared."""

    newer: ClassVar[frozenset[str]] = frozenset()
    """Options that were added later: at their defaults they are in no key, so that what is stored stays known."""

    strength: float = Field(1.0, ge=0, le=1, description="0 = no defense, 1 = the strongest setting")

    def settings(self) -> dict[str, Any]:
        """All options as JSON has them, for keys and records; without `newer` ones at their defaults."""
        changed = changed_options(self)
        usual = {name for name in self.newer if name not in changed}
        return self.model_dump(mode="json", exclude=usual)

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        for point, check in CHECKS.items():
            if point in vars(cls):
                setattr(cls, point, _guarded(vars(cls)[point], point, check))

    def surrogates(self) -> tuple[str, ...]:
        """Attackers that this configuration optimizes against; they are labelled white-box in the results."""
        return ()

    def judges(self) -> tuple[str, ...]:
        """Networks in whose features this configuration minimizes a distance ("efficientnet_lite0").

        Where the judge of realism, closeness, FID and KID is among them, these are marked white-box, and realism does not count
        in the utility index."""
        return ()

    def check(self, subjects: Sequence[Subject]) -> None:
        """Raises UserError when the defense can't work on these people; called before anything is computed."""

    def extra_photos(self) -> tuple[ExtraPhotos, ...]:
        """Photos that it asks the workbench for besides the references. They become part of its cells' keys: a cell is computed
        again when a photo that it depends on changes, and only then."""
        return ()

    def check_personalizer(self, name: str, settings: TrainingSettings) -> None:
        """Raises UserError when the defense can't train with this personalizer; called before anything is computed."""
        if settings.trains_text and self.acts_on("personalize") and not (self.anchor or self.text_training):
            raise UserError(
                f"defense '{self.name}' can't be used with personalizer '{name}' as set: it trains the text encoder, and the "
                "defense's own training is not made for that; use --personalizer lora or dreambooth, with "
                "train_text_encoder=false"
            )

    @classmethod
    def acts_on(cls, point: Point) -> bool:
        return getattr(cls, point) is not getattr(Defense, point)

    def prepare(self, references: np.ndarray, bench: Workbench) -> PreparedBase:
        """Prepare the base model that everybody gets, an unauthorized trainer too, before anything else happens.

        It works at full strength and must not look at `strength`: what it gives is stored once for all strengths, and takes
        part with the strength when it is used (`iddmbench.personalize.prepared.prepared`). The other three points see the
        prepared base in `bench.base`. The base itself must be as it was when this returns.

        Args:
            references: uint8 [N, S, S, 3], the subject's photos; none of them (N = 0) where `once` is set, and then
                `bench.subject` is "", the decoys are the same for everybody, and there are no surrogate photos.
        """
        return PreparedBase()

    def protect(self, references: np.ndarray, bench: Workbench) -> np.ndarray:
        """Change the reference photos, uint8 [N, S, S, 3], before personalization."""
        return references

    def personalize(self, references: np.ndarray, bench: Workbench) -> Personalization:
        """Make the personalized model."""
        return bench.personalize(references)

    def release(self, images: np.ndarray, bench: Workbench) -> np.ndarray:
        """Change the generated images, uint8 [N, S, S, 3], before they are posted."""
        return images


def _guarded(own: Callable, point: str, check: Callable[[str, Any, np.ndarray, Any], Any]) -> Callable:
    """A plugin's method with what it gives checked."""

    @wraps(own)
    def guarded(self: Defense, images: np.ndarray, bench: Workbench) -> Any:
        plugin = f"defense '{self.name}': {point}"
        with errors_of(plugin):
            found = own(self, images, bench)
        return check(plugin, found, images, bench)

    return guarded


def _check_photos(plugin: str, found: object, images: np.ndarray, bench: Workbench) -> np.ndarray:
    return checked_images(plugin, found, images.shape, ", with the number and size of the input")


def _check_preparation(plugin: str, found: object, images: np.ndarray, bench: Workbench) -> PreparedBase:
    """Finite weights under the base's names and in their shapes, and a prefix of the text encoder's width."""

    def wrong(what: str) -> UserError:
        return UserError(f"{plugin} gives {what}")

    if not isinstance(found, PreparedBase):
        raise wrong(f"{type(found).__name__}, expected PreparedBase(replaced, prefix)")
    known = base_parameters(bench.base, found.replaced)
    for name, tensor in found.tensors().items():
        if not bool(torch.isfinite(tensor).all()):
            raise wrong(f"NaN or infinite numbers in '{name}': did its training diverge?")
        if name != PREFIX and name not in known:
            raise wrong(f"a weight '{name}' that the base does not have: names are PART.NAME, as unet.conv_in.weight")
        if name != PREFIX and tensor.shape != known[name].shape:
            raise wrong(f"'{name}' of shape {tuple(tensor.shape)}, expected {tuple(known[name].shape)}")
    encoder: Any = bench.base.text_encoder
    width = encoder.get_input_embeddings().embedding_dim
    if found.prefix is not None and (found.prefix.ndim != 2 or found.prefix.shape[1] != width):
        raise wrong(f"a prefix of shape {tuple(found.prefix.shape)}, expected (tokens, {width})")
    return found


def _check_personalization(plugin: str, found: object, images: np.ndarray, bench: Workbench) -> Personalization:
    """A trained model of the workbench's settings, pictures of the photos' size under plain titles, and figures."""

    def wrong(what: str) -> UserError:
        return UserError(f"{plugin} gives {what}")

    if not isinstance(found, Personalization) or not isinstance(found.model, PersonalizedModel):
        raise wrong(f"{type(found).__name__}, expected Personalization(model, ...) with a PersonalizedModel")
    weights = found.model.weights
    tensors = weights is None or (isinstance(weights, dict) and all(isinstance(w, Tensor) for w in weights.values()))
    if not tensors:
        raise wrong("a model whose weights are not named tensors")
    trained = {**(weights or {}), **found.model.replaced}
    if found.model.placeholder is not None:
        trained[found.model.placeholder.token] = found.model.placeholder.vectors
    if bad := [name for name, w in trained.items() if not bool(torch.isfinite(w).all())]:
        raise wrong(f"a model with NaN or infinite weights ({bad[0]}): did its training diverge?")
    if trained and found.model.settings != bench.lora:
        raise wrong("a model whose settings differ from the workbench's (bench.lora)")
    for title, pictures in found.images.items():
        if PurePath(title).name != title or not title.isprintable():
            raise wrong(f"images titled {title!r}: a title is a plain name, without slashes")
        shape = (len(pictures) if isinstance(pictures, np.ndarray) else len(images), *images.shape[1:])
        checked_images(f"{plugin} ('{title}')", pictures, shape)
    for row in found.trace:
        for key, value in row.items():
            if not isinstance(value, int | float | np.number):
                raise wrong(f"a trace whose '{key}' is not a number but {type(value).__name__}")
    numbers = [{key: v.item() if isinstance(v, np.number) else v for key, v in row.items()} for row in found.trace]
    return replace(found, trace=numbers)


CHECKS: dict[str, Callable[[str, Any, np.ndarray, Any], Any]] = {
    "prepare": _check_preparation,
    "protect": _check_photos,
    "personalize": _check_personalization,
    "release": _check_photos,
}
"""What each of the points where a defense acts has to give."""


def configure(cls: type[Defense], options: dict[str, Any]) -> Defense:
    """Build a defense from options. Raises UserError that names the wrong key or value."""
    return read_options(cls, options, f"defense '{cls.name}'")


DEFENSES: Registry[Defense] = Registry(
    "defense",
    Defense,
    {
        "none": "iddmbench.defenses.none:NoDefense",
        "generic": "iddmbench.defenses.generic:GenericModel",
        "random-noise": "iddmbench.defenses.random_noise:RandomNoise",
        "iddm": "iddmbench.defenses.iddm:IDDM",
        "iddm-keyed": "iddmbench.defenses.iddm_keyed:IDDMKeyed",
        "aspl": "iddmbench.defenses.anti_dreambooth:ASPL",
        "fsmg": "iddmbench.defenses.anti_dreambooth:FSMG",
        "simac": "iddmbench.defenses.simac:SimAC",
        "metacloak": "iddmbench.defenses.metacloak:MetaCloak",
        "caat": "iddmbench.defenses.caat:CAAT",
        "advdm": "iddmbench.defenses.advdm:AdvDM",
        "mist": "iddmbench.defenses.mist:Mist",
        "photoguard": "iddmbench.defenses.photoguard:PhotoGuard",
        "blur": "iddmbench.defenses.degrade:Blur",
        "pixelate": "iddmbench.defenses.degrade:Pixelate",
        "lowkey": "iddmbench.defenses.lowkey:LowKey",
        "anti-diffusion": "iddmbench.defenses.anti_diffusion:AntiDiffusion",
        "apl": "iddmbench.defenses.apl:APL",
        "apdm": "iddmbench.defenses.apdm:APDM",
        "cloak": "iddmbench.defenses.cloak:Cloak",
        "control-person": "iddmbench.defenses.controls:ControlPerson",
        "control-alike": "iddmbench.defenses.controls:ControlAlike",
        "control-noise": "iddmbench.defenses.controls:ControlNoise",
        "control-class": "iddmbench.defenses.controls:ControlClass",
        "protected-photos": "iddmbench.defenses.protected_photos:ProtectedPhotos",
    },
    "iddmbench.defenses",
    texts=("name", "title"),
)
