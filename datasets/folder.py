"""Your own photos: ROOT/IDENTITY/*.jpg|png, one folder per person."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from iddmbench.dataset import FaceDataset, fingerprint
from iddmbench.errors import UserError
from iddmbench.faces.detect import Detector, YuNet
from iddmbench.seeds import Seeds
from iddmbench.types import FaceData, Photo, Skipped, Subject

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
LONGEST = 1024
"""Longest side kept in pixels; larger photos are reduced, which bounds memory and costs the linker nothing."""


class Folder(FaceDataset):
    """Every identity folder with enough usable photos is a subject; the rest is listed as skipped.

    Args:
        root: folder of identity folders.
        references: photos per subject that personalize the model.
        enrolment: fewest photos per subject left for the linker's gallery.
        seed: of the split into references and enrolment.

    A photo is usable when it can be read and exactly what the protocol needs is on it: at least one face. Photos are turned
    upright by their EXIF orientation. Distractors and calibration impostors are ORL's public people, as for `orl`, so that
    thresholds do not depend on how many people the folder holds.
    """

    name = "folder"
    title = "your photos: ROOT/IDENTITY/*.jpg|png"
    licence = "your own"

    def __init__(self, root: str | Path = "", references: int = 4, enrolment: int = 2, seed: int = 0):
        if not root:
            raise UserError("dataset 'folder' needs --root, a folder that holds one folder of photos per person")
        if references < 1 or enrolment < 1:
            raise UserError("dataset 'folder': references and enrolment must be at least 1")
        self.root, self.references, self.enrolment, self.seed = Path(root), references, enrolment, seed

    def load(self) -> FaceData:
        from iddmbench.datasets.orl import ORL

        if not self.root.is_dir():
            raise UserError(f"--root {self.root} is not a folder")
        people = sorted(p for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not people:
            raise UserError(f"{self.root} holds no folders: put each person's photos into one, {self.root}/NAME/*.jpg")
        detector, skipped, subjects = YuNet(), [], []
        for person in people:
            photos = []
            for entry in self._photos(person, detector):
                (photos if isinstance(entry, Photo) else skipped).append(entry)  # type: ignore[attr-defined]
            needed = self.references + self.enrolment
            if len(photos) < needed:
                reason = f"{len(photos)} usable photos, {needed} needed ({self.references} + {self.enrolment})"
                skipped.append(Skipped(person.name, reason))
            else:
                subjects.append(self._split(person.name, photos))
        if not subjects:
            reasons = "; ".join(f"{s.name}: {s.reason}" for s in skipped[-3:])
            raise UserError(f"no person in {self.root} has enough photos ({reasons})")
        used = [x for s in subjects for x in (*s.references, *s.enrolment)]
        public = ORL().load()
        return FaceData(
            self.name, tuple(subjects), public.public, tuple(skipped), fingerprint(used, public.fingerprint)
        )

    def _photos(self, person: Path, detector: Detector) -> Iterator[Photo | Skipped]:
        for path in sorted(person.iterdir()):
            if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
                continue
            name = f"{person.name}/{path.name}"
            try:
                image = read_photo(path)
            except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
                yield Skipped(name, f"unreadable: {str(error).splitlines()[0]}")
                continue
            if not detector.detect([image]).found[0]:
                yield Skipped(name, "no face found")
                continue
            yield Photo(name, image)

    def _split(self, name: str, photos: list[Photo]) -> Subject:
        """A seeded split that depends on the identity's name and its photos' names only."""
        order = Seeds(self.seed).child("split", name).numpy().permutation(len(photos))
        shuffled = [photos[i] for i in order]
        return Subject(name, tuple(shuffled[: self.references]), tuple(shuffled[self.references :]))


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
