"""The base class of dataset plugins (datasets/): where the photos come from and how they are split."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from inspect import signature
from typing import Any, ClassVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from iddmbench.errors import UserError, did_you_mean
from iddmbench.registry import Registry
from iddmbench.types import FaceData


class FaceDataset(ABC):
    """A dataset plugin. Its constructor's arguments are its options (`--root`, split sizes, seed)."""

    name: str
    title: str
    licence: str
    base: str = "micro"
    """The embedded base model that suits the photos, which a run takes if it names none."""
    layouts: ClassVar[tuple[str, ...]] = ()
    """Arrangements of files below its root that it takes, as `list dataset NAME` shows them."""
    referees: ClassVar[Mapping[str, str]] = {}
    """SHA-256 of the weights of recognition systems that can't be attackers on these photos, and why."""

    @abstractmethod
    def load(self) -> FaceData:
        """Read and split the photos. Raises UserError if they are missing or too few."""


def check_options(cls: type[FaceDataset], options: Mapping[str, Any]) -> None:
    """Raises UserError for an option that the dataset does not have, or a value of another type than it takes."""
    known = signature(cls).parameters
    hints = get_type_hints(cls.__init__)
    for option, value in options.items():
        if option not in known:
            raise UserError(f"dataset '{cls.name}' has no option '{option}': {did_you_mean(option, known)}")
        try:
            TypeAdapter(hints.get(option, Any)).validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ").lower()
            raise UserError(f"dataset '{cls.name}': {option}={value!r}: {message}") from error


def make_dataset(cls: type[FaceDataset], options: Mapping[str, Any]) -> FaceDataset:
    """Raises UserError as `check_options` does, and for options that don't match."""
    check_options(cls, options)
    return cls(**options)


DATASETS: Registry[FaceDataset] = Registry(
    "dataset",
    FaceDataset,  # type: ignore[type-abstract]
    {
        "orl": "iddmbench.datasets.orl:ORL",
        "synthetic": "iddmbench.datasets.synthetic:Synthetic",
        "folder": "iddmbench.datasets.folder:Folder",
        "vggface2": "iddmbench.datasets.vggface2:VGGFace2",
        "celebahq": "iddmbench.datasets.celebahq:CelebAHQ",
        "lfw": "iddmbench.datasets.lfw:LFW",
    },
    "iddmbench.datasets",
    texts=("name", "title", "licence"),
)
