"""The base class of dataset plugins (datasets/): where the photos come from and how they are split."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from iddmbench.registry import Registry
from iddmbench.types import FaceData


class FaceDataset(ABC):
    """A dataset plugin. Its constructor's arguments are its options (`--root`, split sizes, seed)."""

    name: str
    title: str
    licence: str
    layouts: ClassVar[tuple[str, ...]] = ()
    """Arrangements of files below its root that it takes, as `list dataset NAME` shows them."""
    referees: ClassVar[Mapping[str, str]] = {}
    """SHA-256 of the weights of recognition systems that can't be attackers on these photos, and why."""

    @abstractmethod
    def load(self) -> FaceData:
        """Read and split the photos. Raises UserError when they are missing or too few."""


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
