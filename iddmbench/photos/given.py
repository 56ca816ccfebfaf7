"""Images and photos that a caller gives: a folder of one folder per person, or arrays and paths by person."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from iddmbench.errors import UserError
from iddmbench.faces.images import rgb_images
from iddmbench.paths import readable, user_path
from iddmbench.photos.files import files_below, people_below, read_photo, read_size, shown_name, why_unreadable
from iddmbench.types import Photo, Skipped

Given = Path | str | Mapping[str, Sequence[Any] | np.ndarray]
"""ROOT, which holds ROOT/PERSON/*.png or images of other formats, or {person: images}; an image is a uint8 array [H, W, 3] or
[H, W], a path or PIL's."""
SMALLEST = 16
"""Pixels a side that image quality takes."""


@dataclass(frozen=True)
class People:
    """photos: by person, in order, nobody without one. skipped: what can't be used, and why."""

    photos: dict[str, tuple[Photo, ...]]
    skipped: tuple[Skipped, ...]


def read_people(given: Given, what: str) -> People:
    """The readable photos.

    Args:
        what: what they are called in messages ("images", "gallery").

    Raises UserError for a missing or empty folder, an invalid image, or if nothing can be used.
    """
    if not isinstance(given, str | Path | Mapping):
        raise UserError(f"{what}: give a folder, or a dictionary of images by person, not {type(given).__name__}")
    photos: dict[str, tuple[Photo, ...]] = {}
    people, skipped = (given, []) if isinstance(given, Mapping) else _in_folder(user_path(given), what)
    for person, several in people.items():
        name = str(person)
        if not name or not name.isprintable() or "/" in name or name.startswith("."):
            raise UserError(f"{what}: {name!r} can't be a person's name: it becomes a folder name")
        if isinstance(several, str | bytes | Path) or (isinstance(several, np.ndarray) and several.ndim != 4):
            raise UserError(f"{what}: give a list of images for '{name}', a single one as [image]")
        found = [_photo(image, name, index, what) for index, image in enumerate(several)]
        skipped += [entry for entry in found if isinstance(entry, Skipped)]
        if usable := tuple(entry for entry in found if isinstance(entry, Photo)):
            photos[name] = usable
        else:
            skipped.append(Skipped(name, f"no usable image among the {what}"))
    if not photos:
        reason = f" ({skipped[0].name}: {skipped[0].reason})" if skipped else ""
        raise UserError(f"{what}: nothing usable there{reason}")
    return People(photos, tuple(skipped))


class _Below(NamedTuple):
    """A file below the root, and what it is called in reports."""

    path: Path
    name: str


def _in_folder(root: Path, what: str) -> tuple[dict[str, list[_Below]], list[Skipped]]:
    """Every person's images by name, sub-folders included; and the other files found there."""
    if not root.is_dir():
        raise UserError(f"{what}: {root} is not a folder")
    people, skipped = people_below(root)
    if not people:
        raise UserError(f"{what}: {root} holds no folder: put each person's images into one, {root}/NAME/*.png")
    found: dict[str, list[_Below]] = {}
    for person in people:
        name = readable(person.name)
        files, left = files_below(person, name)
        found[name] = sorted((_Below(path, shown_name(path, person, name)) for path in files), key=_natural)
        skipped += left
    return found, skipped


def _natural(file: _Below) -> list[Any]:
    """99.png before 100.png."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", file.name)]


def _photo(image: Any, person: str, index: int, what: str) -> Photo | Skipped:
    if isinstance(image, str | Path | _Below):
        path = image.path if isinstance(image, _Below) else user_path(image)
        name = image.name if isinstance(image, _Below) else f"{person}/{readable(path.name)}"
        try:
            found = Photo.read_by(name, partial(read_photo, path))
            smallest = min(read_size(path))
        except (OSError, ValueError) as error:
            return Skipped(name, why_unreadable(error))
    else:
        name = f"{person}/{index:02d}"
        if isinstance(image, Image.Image):
            image = np.asarray(image.convert("RGB"))
        try:
            pixels = np.ascontiguousarray(rgb_images([image])[0])
        except (TypeError, ValueError) as error:
            raise UserError(f"{what}: {name}: {str(error).replace('image 0 ', 'an image ')}") from error
        found, smallest = Photo.of(name, pixels), min(pixels.shape[:2])
    if smallest < SMALLEST:
        return Skipped(name, f"too small: {smallest} pixels, at least {SMALLEST} needed")
    return found
