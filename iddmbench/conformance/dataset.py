"""What every dataset has to keep. Options say where its photos lie (`--set root=DIR`)."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from iddmbench.conformance import require
from iddmbench.errors import UserError
from iddmbench.faces.detect import YuNet
from iddmbench.guards import errors_of
from iddmbench.photos.dataset import FaceDataset, check_options, make_dataset
from iddmbench.types import FaceData, Photo

LOOKED_AT = 40
"""Photos that are decoded and searched for faces, spread over all."""
FACES = 0.8
"""Share of them that must show a face."""


class DatasetSubject:
    """A dataset under test, loaded once."""

    def __init__(self, cls: type[FaceDataset], name: str, options: Mapping[str, Any] | None = None):
        self.cls, self.name, self.options = cls, name, dict(options or {})
        _ = self.data

    def load(self) -> FaceData:
        return make_dataset(self.cls, self.options).load()

    @cached_property
    def data(self) -> FaceData:
        with errors_of(f"dataset '{self.name}'"):
            return self.load()

    @cached_property
    def photos(self) -> list[Photo]:
        """All of them, the subjects' first."""
        own = [p for s in self.data.subjects for p in (*s.references, *s.enrolment, *s.surrogate)]
        return [*own, *(photo for person in self.data.public for photo in person.photos)]

    @cached_property
    def some(self) -> list[Photo]:
        chosen = np.linspace(0, len(self.photos) - 1, min(LOOKED_AT, len(self.photos))).round().astype(int)
        return [self.photos[i] for i in chosen]


def describes_itself(subject: DatasetSubject) -> None:
    cls = subject.cls
    require(cls.name == subject.name, f"`name` is {cls.name!r}, but it is registered as {subject.name!r}")
    for field in ("title", "licence"):
        require(getattr(cls, field, None), f"class variable `{field}` must be a text")
    require(subject.data.name == cls.name, f"FaceData must be named {cls.name!r}, got {subject.data.name!r}")


def options_are_checked(subject: DatasetSubject) -> None:
    try:
        check_options(subject.cls, {"no_such_option": 1})
    except UserError:
        return
    raise AssertionError("an unknown option must be refused: name the constructor's arguments, without **kwargs")


def there_are_people_to_test_and_to_compare_with(subject: DatasetSubject) -> None:
    data = subject.data
    require(isinstance(data, FaceData), f"load must give FaceData, got {type(data).__name__}")
    require(data.subjects, "there must be at least one subject")
    require(len(data.public) >= 3, f"{len(data.public)} public people: at least three are needed to set thresholds")


def the_same_options_give_the_same_photos(subject: DatasetSubject) -> None:
    require(subject.load().fingerprint == subject.data.fingerprint, "loading twice must give the same split, in order")


def photos_are_images(subject: DatasetSubject) -> None:
    for photo in subject.some:
        image = photo.image
        fits = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        require(
            fits, f"photo {photo.name} must be uint8 [H, W, 3], got {getattr(image, 'dtype', type(image).__name__)}"
        )


def photos_show_faces(subject: DatasetSubject) -> None:
    found = YuNet().detect([photo.image for photo in subject.some]).found.mean()
    require(found >= FACES, f"a face is found on {found:.0%} of {len(subject.some)} photos, {FACES:.0%} are expected")


def roles_are_apart(subject: DatasetSubject) -> None:
    """A reference that is enrolled too makes linkage trivial."""
    for person in subject.data.subjects:
        enrolled = {photo.digest for photo in person.enrolment}
        both = [p.name for p in (*person.references, *person.surrogate) if p.digest in enrolled]
        require(not both, f"photo {both[:1]} of '{person.name}' is enrolled, and a reference or surrogate photo too")
    subjects = {p.digest for s in subject.data.subjects for p in (*s.references, *s.enrolment)}
    shared = [p.name for person in subject.data.public for p in person.photos if p.digest in subjects]
    require(not shared, f"photo {shared[:1]} is a subject's and a public person's")


CHECKS: list[Callable[[DatasetSubject], None]] = [
    describes_itself,
    options_are_checked,
    there_are_people_to_test_and_to_compare_with,
    the_same_options_give_the_same_photos,
    photos_are_images,
    photos_show_faces,
    roles_are_apart,
]
