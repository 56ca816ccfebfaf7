"""Images and photos that a caller gives: a folder of one folder per person, or arrays and paths by person."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from iddmbench.errors import UserError, first_line
from iddmbench.faces.images import rgb_images
from iddmbench.photos.files import folders, photo_files, read_photo
from iddmbench.types import Photo, Skipped

Given = Path | str | Mapping[str, Sequence[Any] | np.ndarray]
"""ROOT, which holds ROOT/PERSON/*.png|jpg, or {person: images}; an image is a uint8 array [H, W, 3] or [H, W], a path or
PIL's."""
SMALLEST = 16
"""Pixels a side that image quality takes."""


@dataclass(frozen=True)
class People:
    """photos: by person, in order, nobody without one. skipped: what can't be used, and why."""

    photos: dict[str, tuple[Photo, ...]]
    skipped: tuple[Skipped, ...]


def read_people(given: Given, what: str) -> People:
    """The photos that can be read.

    Args:
        what: what they are called in messages ("images", "gallery").

    Raises UserError for a folder that is none or is empty, an image that is no image, and when nothing can be used.
    """
    if not isinstance(given, str | Path | Mapping):
        raise UserError(f"{what}: give a folder, or a dictionary of images by person, not {type(given).__name__}")
    people = given if isinstance(given, Mapping) else _in_folder(Path(given).expanduser(), what)
    photos: dict[str, tuple[Photo, ...]] = {}
    skipped: list[Skipped] = []
    for person, several in people.items():
        name = str(person)
        if not name or not name.isprintable() or "/" in name or name.startswith("."):
            raise UserError(f"{what}: {name!r} can't be a person's name: it becomes a folder's")
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
        raise UserError(f"{what}: nothing there that can be used{reason}")
    return People(photos, tuple(skipped))


def _in_folder(root: Path, what: str) -> dict[str, list[Path]]:
    if not root.is_dir():
        raise UserError(f"{what}: {root} is not a folder")
    people = folders(root)
    if not people:
        raise UserError(f"{what}: {root} holds no folder: put each person's images into one, {root}/NAME/*.png")
    return {person.name: sorted(photo_files(person), key=_natural) for person in people}


def _natural(path: Path) -> list[Any]:
    """99.png before 100.png."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", path.name)]


def _photo(image: Any, person: str, index: int, what: str) -> Photo | Skipped:
    if isinstance(image, str | Path):
        path = Path(image).expanduser()
        name = f"{person}/{path.name}"
        try:
            found = Photo.read_by(name, partial(read_photo, path))
            smallest = min(read_size(path))
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
            return Skipped(name, f"unreadable: {first_line(error)}")
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


def read_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as opened:
        return opened.size
