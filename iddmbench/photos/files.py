"""Photos on disk: which files there are, how they are read, and why one is left out."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from iddmbench.errors import escaped, first_line
from iddmbench.faces.detect import Detector
from iddmbench.paths import readable
from iddmbench.photos.faults import turned_by
from iddmbench.types import Photo, Skipped, pixel_digest

NO_PHOTOS = {"BUFR", "EPS", "FLI", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
"""Formats that Pillow knows and that hold no single photo of pixels, or that it hands to other programs."""
HEIC = "HEIF"
HEIC_SUFFIXES = {".heic", ".heics", ".heif", ".heifs", ".hif"}
HEIC_NEEDED = "a HEIC photo needs an extra: pip install 'iddmbench[heic]'"
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
SYSTEM_FILES = {"thumbs.db", "desktop.ini"}
TURNED = "no face found, but there is one after a turn by"
LONGEST = 1024
"""Longest side kept in pixels; larger photos are reduced, which bounds memory and costs the linker nothing."""
DEEP = 257
"""65535 / 255: what a 16-bit level is divided by, whatever the photo's own brightest one is."""


class Encoded(Protocol):
    """An encoded photo: a file, or what opens like one."""

    def open(self, mode: str = "rb") -> BinaryIO: ...


class Unreadable(ValueError):
    """A file that is not a photo, or is damaged; the message says why, in one line without the file's name."""


@lru_cache
def _formats() -> tuple[frozenset[str], frozenset[str]]:
    """Formats of Pillow that hold photos, and their suffixes."""
    known = Image.registered_extensions()  # loads all of Pillow's formats
    formats = frozenset(Image.OPEN) - NO_PHOTOS - {HEIC}
    suffixes = {
        s for s, kind in known.items() if kind in formats or kind == "MPO"
    }  # MPO: JPEG with more pictures behind
    return formats, frozenset(suffixes) | HEIC_SUFFIXES


def suffixes() -> frozenset[str]:
    """Suffixes of files that are taken for photos, in small letters, with the dot."""
    return _formats()[1]


def has_heic() -> bool:
    """Whether HEIC photos can be read here."""
    try:
        import pillow_heif
    except ImportError:
        return False
    _formats()
    if HEIC not in Image.OPEN:
        pillow_heif.register_heif_opener()
    return True


def folders(root: Path) -> list[Path]:
    """Sub-folders by name, without hidden ones and what archives of macOS add."""
    return sorted(p for p in root.iterdir() if p.is_dir() and _shown(p))


def photo_files(folder: Path) -> list[Path]:
    """Everything right in a folder that is called like a photo, by name, without hidden files."""
    return sorted(p for p in folder.iterdir() if is_photo(p) and _shown(p))


def is_photo(path: Path) -> bool:
    """Whether a file is called like a photo."""
    return path.suffix.lower() in suffixes()


def _shown(path: Path) -> bool:
    """Not hidden, and nothing that systems and archives add by themselves."""
    return not path.name.startswith((".", "__MACOSX", "@eaDir")) and path.name.lower() not in SYSTEM_FILES


def files_below(folder: Path, name: str) -> tuple[list[Path], list[Skipped]]:
    """All photos in a folder and its sub-folders, by name, and what else lies there and is left out.

    name: of the folder, which names of files begin with.
    """
    photos: list[Path] = []
    skipped: list[Skipped] = []

    def closed(error: OSError) -> None:
        where = shown_name(Path(os.fsdecode(error.filename or folder)), folder, name)
        skipped.append(Skipped(f"{where}/", f"can't be opened: {str(error.strerror).lower()}"))

    seen: set[str] = set()
    for place, below, names in os.walk(folder, onerror=closed, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link to a folder that holds it
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(one for one in below if _shown(Path(one)))
        for path in sorted(Path(place, one) for one in names if _shown(Path(one))):
            if is_photo(path):
                photos.append(path)
            else:
                skipped.append(Skipped(shown_name(path, folder, name), no_photo(path)))
    return sorted(photos), skipped


def shown_name(path: Path, folder: Path, name: str) -> str:
    """ "ann/holiday/3.jpg": how a file below a folder of that name is called in reports."""
    inside = path.relative_to(folder).parts if path.is_relative_to(folder) else path.parts
    return "/".join([name, *map(readable, inside)])


def no_photo(path: Path) -> str:
    """Why a file is left out that is not called like a photo."""
    return f"no photo that can be read: {readable(path.suffix.lower()) or 'no suffix'}"


def usable_photo(path: Path | Encoded, name: str, detector: Detector) -> Photo | Skipped:
    """The photo, if it can be read and at least one face is on it; else why it is left out. Its pixels are not kept."""
    try:
        image = read_photo(path)
    except (OSError, ValueError) as error:
        return Skipped(name, why_unreadable(error))
    if not detector.detect([image]).found[0]:
        turned = turned_by(image, detector)
        return Skipped(name, f"{TURNED} {turned}: turn it upright" if turned else "no face found")
    return Photo(name, pixel_digest(image), partial(read_photo, path))


def why_unreadable(error: OSError | ValueError) -> str:
    """What is said of a photo that `read_photo` refuses."""
    text = str(error.strerror).lower() if isinstance(error, OSError) and error.strerror else escaped(first_line(error))
    return f"unreadable: {text}"


def read_photo(path: Path | Encoded) -> np.ndarray:
    """uint8 [H, W, 3] RGB, upright by EXIF, at most LONGEST pixels a side; gray, palette, alpha and 16 bit are converted.

    Of a file with several pictures the first is read. Raises OSError for a file that can't be opened, Unreadable for all else.
    """
    with _refusing(path):
        return _read(path)


def read_size(path: Path) -> tuple[int, int]:
    """Width and height as stored. Raises as `read_photo` does."""
    with _refusing(path), Image.open(path, formats=_open_formats()) as opened:
        return opened.size


@contextmanager
def _refusing(path: Path | Encoded) -> Iterator[None]:
    """Whatever a decoder raises is an Unreadable: they meet damage with errors of any kind."""
    with path.open("rb") as file:
        head = file.read(16)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF data and the like: the photo is read, or refused below
            yield
    except (MemoryError, Unreadable):
        raise
    except UnidentifiedImageError as error:
        raise Unreadable(_unidentified(head)) from error
    except Image.DecompressionBombError as error:
        raise Unreadable(f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels: make it smaller") from error
    except Exception as error:
        raise Unreadable(f"damaged ({readable(first_line(error))})") from error


def _open_formats() -> list[str]:
    return sorted(_formats()[0]) + ([HEIC] if has_heic() else [])


def _unidentified(head: bytes) -> str:
    """What a file is that Pillow does not know, by its first bytes."""
    if not head:
        return "the file is empty"
    if head[4:8] == b"ftyp":
        if head[8:12] in HEIC_BRANDS and not has_heic():
            return HEIC_NEEDED
        if head[8:12] in (b"avif", b"avis") and "AVIF" not in _formats()[0]:
            return "an AVIF photo needs a newer Pillow: pip install -U pillow"
    return "not a known image format"


def _read(path: Path | Encoded) -> np.ndarray:
    source = path if isinstance(path, Path) else path.open("rb")
    with Image.open(source, formats=_open_formats()) as opened:
        upright = ImageOps.exif_transpose(opened)
        if upright.mode == "F":
            raise Unreadable("floating-point pixels have no fixed scale: save it with 8 or 16 bits per channel")
        if upright.mode.startswith("I"):
            upright = _eight_bits(np.asarray(upright))
        if upright.mode in {"RGBA", "LA", "PA"} or "transparency" in upright.info:
            rgba = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        rgb = upright.convert("RGB")
    rgb.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return np.asarray(rgb)


def _eight_bits(deep: np.ndarray) -> Image.Image:
    """16-bit levels on the scale of 8 bits, the same one for every photo."""
    if deep.min() < 0 or deep.max() > 65535:
        raise Unreadable("more than 16 bits per channel have no fixed scale: save it with 8 or 16")
    return Image.fromarray(np.round(deep / DEEP).astype(np.uint8))


def people_below(root: Path) -> tuple[list[Path], list[Skipped]]:
    """The people's folders, and what lies beside them and is left out."""
    beside = sorted(p for p in root.iterdir() if not p.is_dir() and _shown(p))
    reason = "is outside the people's folders: move it into one"
    return folders(root), [Skipped(f"./{readable(p.name)}", reason if is_photo(p) else no_photo(p)) for p in beside]
