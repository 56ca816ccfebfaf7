"""Dataset photos as the base wants them: squares around the face, of its size, stored by their content."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from iddmbench.cells.public import chosen
from iddmbench.cells.versions import code
from iddmbench.faces.detect import YuNet
from iddmbench.models.base import BaseModel
from iddmbench.photos.references import crop_photo, crop_references
from iddmbench.store.cache import Store
from iddmbench.store.files import read_images, write_images
from iddmbench.types import Person, Photo, Subject

AT_ONCE = 16
"""Photos of public people in memory together."""

log = logging.getLogger(__name__)


class Crops:
    """Cropped photos of one dataset for one base model; `squares` in what follows are uint8 [N, S, S, 3], S its side."""

    def __init__(self, base: BaseModel, store: Store):
        self.base, self.store = base, store

    @cached_property
    def detector(self) -> YuNet:
        return YuNet()

    def references(self, subject: Subject) -> np.ndarray:
        """The subject's references as squares; see `crop_references`. None of a person who has none."""
        return read_images(self.references_folder(subject)) if subject.references else self._nothing

    def references_folder(self, subject: Subject) -> Path:
        """Where `references` are stored; an empty folder for a person who has none."""
        return self._cropped(subject, subject.references)

    def surrogate_photos(self, subject: Subject) -> np.ndarray:
        """The subject's surrogate set as squares; logs when it shares photos with the references."""
        if not subject.surrogate:
            return self._nothing
        known = {p.digest for p in subject.references}
        shared = [p.name for p in subject.surrogate if p.digest in known]
        if shared:
            log.warning("%s: the surrogate set shares photos with the references: %s", subject.name, ", ".join(shared))
        return read_images(self._cropped(subject, subject.surrogate))

    def public(self, people: Sequence[Person]) -> Iterator[list[tuple[int, np.ndarray]]]:
        """Photos of public people with a face, and whose they are, some at a time. They are not stored."""
        photos = chosen(people)
        for start in range(0, len(photos), AT_ONCE):
            cut = ((who, crop_photo(photo, self.base, self.detector)) for who, photo in photos[start : start + AT_ONCE])
            if found := [(who, image) for who, image in cut if image is not None]:
                yield found

    def key(self, photos: Sequence[Photo]) -> dict[str, Any]:
        """What cropped photos depend on: their content, in order, and how the base wants them."""
        recipe = self.base.recipe
        key: dict[str, Any] = {"photos": [p.digest for p in photos], "detector": self.detector.fingerprint()}
        return key | {"side": self.base.side, "gray": recipe.grayscale, "frame": recipe.frame, **code("references")}

    @property
    def _nothing(self) -> np.ndarray:
        return np.zeros((0, self.base.side, self.base.side, 3), np.uint8)

    def _cropped(self, subject: Subject, photos: tuple[Photo, ...]) -> Path:
        def compute(out: Path) -> None:
            if photos:
                write_images(out, crop_references(replace(subject, references=photos), self.base, self.detector))

        return self.store.fetch("references", self.key(photos), compute)
