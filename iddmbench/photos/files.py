"""Photos as they lie on a disk: which files there are, how they are read, and why one is left out."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from iddmbench.errors import first_line
from iddmbench.faces.detect import Detector
from iddmbench.photos.faults import turned_by
from iddmbench.types import Photo, Skipped, pixel_digest

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
TURNED = "no face found, but there is one after a turn by"
LONGEST = 1024
"""Longest side kept in pixels; larger photos are reduced, which bounds memory and costs the linker nothing."""


def folders(root: Path) -> list[Path]:
    """Sub-folders by name, without hidden ones and what archives of macOS add."""
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX")))


def photo_files(folder: Path) -> list[Path]:
    """Everything in a folder that is called like a photo, by name, without hidden files."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def usable_photo(path: Path, name: str, detector: Detector) -> Photo | Skipped:
    """The photo, if it can be read and at least one face is on it; else why it is left out. Its pixels are let go of."""
    try:
        image = read_photo(path)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        return Skipped(name, f"unreadable: {first_line(error)}")
    if not detector.detect([image]).found[0]:
        turned = turned_by(image, detector)
        return Skipped(name, f"{TURNED} {turned}: turn it upright" if turned else "no face found")
    return Photo(name, pixel_digest(image), partial(read_photo, path))


def read_photo(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] RGB, upright by EXIF, at most LONGEST pixels a side; gray, palette, alpha and 16 bit are converted."""
    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened)
        if upright.mode.startswith("I"):
            deep = np.asarray(upright, dtype=np.float64)
            upright = Image.fromarray((deep / max(deep.max(), 1) * 255).astype(np.uint8))
        if upright.mode in {"RGBA", "LA", "PA"} or "transparency" in upright.info:
            rgba = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        rgb = upright.convert("RGB")
    rgb.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return np.asarray(rgb)
