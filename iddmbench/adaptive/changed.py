"""An attacker that is shown changed images, whatever changes them."""

from abc import abstractmethod

from iddmbench.attacker import Attacker
from iddmbench.faces.detect import Faces
from iddmbench.types import Embeddings, Image


class Changed(Attacker):
    """A system that sees every image through `change`. name, title: of the two together."""

    similarity = "cosine"

    def __init__(self, attacker: Attacker, name: str, title: str):
        self.attacker = attacker
        self.name, self.title = name, title  # type: ignore[misc]
        self.licence, self.source = attacker.licence, attacker.source  # type: ignore[misc]

    def available(self) -> str | None:
        return self.attacker.available()

    @property
    def dim(self) -> int:  # type: ignore[override]
        return self.attacker.dim

    def _embed(self, images: list[Image], faces: Faces | None) -> Embeddings:
        return self.attacker.embed(self.changed(images))

    @abstractmethod
    def changed(self, images: list[Image]) -> list[Image]:
        """What the system sees of the images."""
