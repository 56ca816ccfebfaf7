"""The base class of purifiers: changes of an image that undo fragile perturbations, before training or before recognition.

`purifier("jpeg-75")` gives one by name. What becomes of an image never depends on the others of its batch.
"""

import hashlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from iddmbench.errors import UserError, did_you_mean
from iddmbench.guards import checked_images, errors_of
from iddmbench.models.base import BaseModel
from iddmbench.options import Options, changed_options, is_options, read_options, split_options, write_options, written
from iddmbench.registry import Registry
from iddmbench.seeds import Seeds

DARK = 16
"""Images that are brighter than this somewhere do not become black: 0 and 1 only are a float image's values, cast to uint8."""


class Purifier(Options, ABC):
    """A purifier plugin. Subclasses set the class variables, declare fields (its options) and write `apply`.

    What `apply` returns is checked: a UserError names the purifier and says what is wrong, or what it raised.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised when the algorithm changes, so that stale results are not reused."""
    needs_base: ClassVar[bool] = False
    """Whether `apply` needs the base model."""

    @property
    def label(self) -> str:
        """Its whole name, options included: "jpeg-75", "soft:radius=2,passes=3"."""
        fields = {key: getattr(self, key) for key in type(self).model_fields}
        if len(fields) == 1 and all(isinstance(v, int | float) and not isinstance(v, bool) for v in fields.values()):
            return f"{self.name}-{written(*fields.values())}"
        return ":".join(filter(None, [self.name, write_options(self)]))

    @property
    def description(self) -> str:
        """One line on it and its options."""
        changed = ", ".join(f"{key} {written(value)}" for key, value in changed_options(self).items())
        return f"{self.title} ({changed})" if changed else self.title

    @property
    def key(self) -> str:
        """What a result depends on besides the images and, where it needs that, the base model."""
        return self.label if self.version == 1 else f"{self.label} version {self.version}"

    def __call__(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None = None) -> np.ndarray:
        """uint8 [N, H, W, 3] -> the same shape, image by image.

        Args:
            seeds: of the draws; each image's are derived from it and the image's own pixels.
            base: the base model, for those that need it.

        Raises TypeError or ValueError for other input, ValueError when the base is needed and missing, UserError for what
        `apply` does wrong.
        """
        if images.dtype != np.uint8:
            raise TypeError(f"images must be uint8, got {images.dtype}")
        if images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"images must be [N, H, W, 3], got {images.shape}")
        if self.needs_base and base is None:
            raise ValueError(f"purifier '{self.label}' needs the base model")
        if not len(images):
            return images.copy()
        plugin = f"purifier '{self.label}'"
        with errors_of(plugin):
            found = self.apply(images.copy(), seeds, base)
        checked = checked_images(plugin, found, images.shape, ", with the number and size of the input")
        if checked.max() <= 1 and images.max() >= DARK:
            raise UserError(f"{plugin} gives images with values 0 and 1 only: scale them to 0..255")
        return checked

    @abstractmethod
    def apply(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None) -> np.ndarray:
        """What a plugin writes: uint8 [N, H, W, 3] -> the same shape. At least one image; they may be written to.

        Draw an image's random numbers from `own_seeds(seeds, image)` only, so that it is the same in any batch.
        """


def own_seeds(seeds: Seeds, image: np.ndarray) -> Seeds:
    """An image's own draws: the same wherever it stands in a batch."""
    return seeds.child("purify", hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest())


PURIFIERS: Registry[Purifier] = Registry(
    "purifier",
    Purifier,  # type: ignore[type-abstract]
    {
        "jpeg": "iddmbench.perturb.purify:Jpeg",
        "blur": "iddmbench.perturb.purify:Blur",
        "resize": "iddmbench.perturb.purify:Resize",
        "tv": "iddmbench.perturb.purify:TotalVariation",
        "sdedit": "iddmbench.perturb.purify:SDEdit",
        "gaussian": "iddmbench.perturb.purify:Gaussian",
        "diffpure": "iddmbench.perturb.purify:DiffPure",
        "upscale": "iddmbench.perturb.purify:Upscale",
    },
    "iddmbench.purifiers",
    texts=("name", "title"),
)
TRIED = ("jpeg-75", "jpeg-50", "blur-1", "resize-2", "tv-0.05", "sdedit-0.1", "sdedit-0.2", "sdedit-0.3")
"""The ones that the benchmark tries; any other may be given by name."""


def purifier(name: str) -> Purifier:
    """The purifier of that name: "jpeg", "jpeg-75" (its first option), "soft:radius=2,passes=3".

    Raises UserError for an unknown one, and for a wrong option.
    """
    cls, options = split_name(name)
    return read_options(cls, options, f"purifier '{name}'")


def is_purifier(name: str) -> bool:
    """Whether a part of an attacker's name means a purifier, whose options may be wrong all the same."""
    kind = name.partition(":")[0]
    return kind in PURIFIERS or _head(kind) in PURIFIERS


def _head(kind: str) -> str:
    """ "jpeg-75" -> "jpeg"."""
    return kind.rpartition("-")[0]


def split_name(name: str) -> tuple[type[Purifier], dict[str, Any]]:
    """The class of a purifier's name, and the options in it. Raises UserError for an unknown purifier."""
    kind, colon, rest = name.partition(":")
    if kind in PURIFIERS:
        if not colon:
            return PURIFIERS.get(kind), {}
        if not is_options(rest):
            raise UserError(f"purifier '{name}': options are written as {kind}:KEY=VALUE,KEY=VALUE")
        return PURIFIERS.get(kind), dict(split_options(rest))
    if colon or _head(kind) not in PURIFIERS:
        raise UserError(f"unknown purifier '{name}': {did_you_mean(kind, [*TRIED, *PURIFIERS.names()])}")
    cls = PURIFIERS.get(_head(kind))
    if not cls.model_fields:
        raise UserError(f"purifier '{name}': {cls.name} has no options")
    return cls, {next(iter(cls.model_fields)): kind.rpartition("-")[2]}
