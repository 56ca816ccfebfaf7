"""The base class of published datasets that can't be shipped: the user points to a copy."""

import math
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from iddmbench.errors import UserError
from iddmbench.faces.detect import YuNet
from iddmbench.metrics.verification import finest_far
from iddmbench.paths import user_path
from iddmbench.photos.dataset import FaceDataset
from iddmbench.photos.files import folders, photo_files, usable_photo
from iddmbench.types import FaceData, Person, Photo, Skipped, Subject

FINEST = 1e-3
"""The finest FAR of the protocol: there must be enough public people to resolve it."""


class LocalCopy(FaceDataset):
    """A published dataset that the user has a copy of, with one folder per person below its root.

    Attributes:
        variable: environment variable with the default root, so a shared configuration needs no path.
        layout: what lies below the root, as messages show it.
        source: who publishes the dataset.
    """

    variable: str
    layout: str
    source: str

    def __init__(self, root: str | Path = ""):
        chosen = str(root) or os.environ.get(self.variable, "")
        if not chosen:
            raise UserError(
                f"dataset '{self.name}' is not shipped and needs your own copy: {self.source}. Name its folder, the one with "
                f"{self.layout}, with --root or the environment variable {self.variable}"
            )
        self.root = user_path(chosen)
        self._named = "--root" if str(root) else self.variable

    def _check(self, least: int, **counts: int) -> None:
        """Raises UserError for an option that is not a whole number of at least `least`."""
        for option, value in counts.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(
                    f"dataset '{self.name}': {option} must be a whole number, at least {least}; got {value!r}"
                )

    @abstractmethod
    def _is_person(self, folder: Path) -> bool:
        """Whether a folder looks like one person's."""

    @abstractmethod
    def _read(self, people: list[Path]) -> FaceData:
        """`load`, once the root is known to hold `people`, all its folders by name."""

    def load(self) -> FaceData:
        if not self.root.is_dir():
            problem = "is a file: unpack it and give the folder" if self.root.is_file() else "is not a folder"
            raise UserError(f"{self._named} {self.root} {problem}")
        people = folders(self.root)
        if not any(map(self._is_person, people)):
            raise UserError(f"{self._named} {self.root} holds no {self.layout}: {self._advice()}")
        return self._read(people)

    def _advice(self) -> str:
        """Which folder to give instead of the root."""
        root = self.root.resolve()
        if inside := [f for f in _below(root, 2) if any(map(self._looks_right, _visible(f)))]:
            return f"it is too high; give {' or '.join(map(str, inside[:3]))}"
        for folder in (root, root.parent):  # a person's, or one inside a person's
            if self._looks_right(folder):
                return f"it is too low; give {folder.parent}"
        if any(map(_holds_photos, _visible(root))):
            return "its folders have another layout; --dataset folder reads one folder of photos per person"
        return f"is the copy complete? {self.source[0].upper()}{self.source[1:]}"

    def _looks_right(self, folder: Path) -> bool:
        try:
            return self._is_person(folder)
        except OSError:
            return False

    def _face_data(self, subjects: Sequence[Subject], public: Sequence[Person], skipped: Sequence[Skipped]) -> FaceData:
        """Raises UserError when the public people are too few for the protocol's thresholds; none are a choice."""
        if not public:
            return FaceData(self.name, tuple(subjects), (), tuple(skipped))
        photos = sum(len(person.photos) for person in public)
        pairs = photos * (len(public) - 1)
        if len(public) < 3 or finest_far(pairs) > FINEST:
            mean, needed = photos / len(public), finest_far(1) / FINEST
            enough = max(3, math.ceil(0.5 + math.sqrt(0.25 + needed / mean)))
            raise UserError(
                f"dataset '{self.name}': {len(public)} public people with {photos} photos make {pairs} impostor pairs; "
                f"thresholds at FAR {FINEST:g} take {needed:.0f}: give public={enough} or more"
            )
        return FaceData(self.name, tuple(subjects), tuple(public), tuple(skipped))


class Reader:
    """Reads a dataset's photos, and lists in `skipped` those that it leaves out: unreadable, without a face, or read before.

    Two photos are the same if all their pixels are, whatever their names.
    """

    def __init__(self, root: Path):
        self.root, self.skipped = root, list[Skipped]()
        self._detector, self._seen = YuNet(), dict[str, str]()

    def read(self, paths: Iterable[Path], most: int | None = None) -> tuple[Photo, ...]:
        """The usable ones of the files, or the first `most` of them; later files are not opened then."""
        return tuple(islice(filter(None, map(self._one, paths)), most))

    def _one(self, path: Path) -> Photo | None:
        name = path.relative_to(self.root).as_posix()
        found = usable_photo(path, name, self._detector)
        if isinstance(found, Photo):
            first = self._seen.setdefault(found.digest, name)
            if first == name:
                return found
            found = Skipped(name, f"the same photo as {first}")
        self.skipped.append(found)
        return None


def _below(root: Path, depth: int) -> Iterator[Path]:
    for folder in _visible(root):
        yield folder
        if depth > 1:
            yield from _below(folder, depth - 1)


def _visible(folder: Path) -> list[Path]:
    """`folders`, or none where they may not be read."""
    try:
        return folders(folder)
    except OSError:
        return []


def _holds_photos(folder: Path) -> bool:
    try:
        return bool(photo_files(folder))
    except OSError:
        return False
