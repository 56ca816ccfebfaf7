"""Quick plugins for tests of the pipeline, and a command line that knows them: `python lab_plugins.py run ...`.

`tiny-orl`: three subjects of ORL and a few photos of each public person. `coarse`, `fine`: attackers that compare
gradients of aligned faces. `echo`: a defense that posts photos instead of generated images, so that what is linked is
known beforehand.
"""

import errno
import hashlib
import os
import signal
import time
from functools import lru_cache

import cv2
import numpy as np
import pytest

from iddmbench.attacker import ATTACKERS, Attacker
from iddmbench.datasets.orl import PUBLIC, photo
from iddmbench.defense import DEFENSES, Defense
from iddmbench.faces.detect import YuNet
from iddmbench.photos.dataset import DATASETS, FaceDataset
from iddmbench.photos.references import face_square, resize
from iddmbench.types import Embeddings, FaceData, Person, Subject

SUBJECTS = ("s29", "s30", "s31")


class TinyORL(FaceDataset):
    name, title, licence = "tiny-orl", "a part of ORL", "as ORL"

    def load(self) -> FaceData:
        public = tuple(Person(f"s{p}", tuple(photo(p, k) for k in range(1, 5)), "orl") for p in PUBLIC)
        subjects = tuple(
            Subject(
                s,
                tuple(photo(int(s[1:]), k) for k in (1, 2)),
                tuple(photo(int(s[1:]), k) for k in (5, 6, 7)),
                (),
                "orl",
            )
            for s in SUBJECTS
        )
        return FaceData(self.name, subjects, public)


@lru_cache(maxsize=2000)
def aligned(content: bytes, shape: tuple[int, ...]) -> np.ndarray | None:
    """The face, uint8 [64, 64] gray, turned and scaled by its landmarks; None without a face."""
    image = np.frombuffer(content, np.uint8).reshape(shape)
    faces = detector().detect([image])
    if not faces.found[0]:
        return None
    target = np.array([[18, 20], [46, 20], [32, 35], [21, 50], [43, 50]], np.float32)
    matrix, _ = cv2.estimateAffinePartial2D(faces.landmarks[0], target, method=cv2.LMEDS)
    return cv2.cvtColor(cv2.warpAffine(image, matrix, (64, 64)), cv2.COLOR_RGB2GRAY)


@lru_cache
def detector() -> YuNet:
    return YuNet()


class Coarse(Attacker):
    name, title, dim = "coarse", "histograms of gradients, 16-pixel cells", 128
    licence, source = "none", "none"
    cell = 16

    def describe(self, face: np.ndarray) -> np.ndarray:
        y, x = np.gradient(cv2.GaussianBlur(face, (0, 0), 1.5).astype(float))
        bins = (np.arctan2(y, x) % np.pi / np.pi * 8).astype(int) % 8
        by_bin = np.hypot(y, x)[..., None] * np.eye(8)[bins]
        n = 64 // self.cell
        cells = by_bin.reshape(n, self.cell, n, self.cell, 8).sum((1, 3))
        return np.sqrt(cells / (cells.sum(-1, keepdims=True) + 1))

    def embed(self, images, faces=None):
        vectors, acquired = np.zeros((len(images), self.dim), np.float32), np.zeros(len(images), bool)
        for i, image in enumerate(images):
            face = aligned(np.ascontiguousarray(image).tobytes(), image.shape)
            if face is not None:
                v = self.describe(face).ravel()
                v = v - v.mean()
                vectors[i], acquired[i] = v / np.linalg.norm(v), True
        return Embeddings(vectors, acquired)

    def fingerprint(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()


class Fine(Coarse):
    name, title, dim = "fine", "histograms of gradients, 8-pixel cells", 512
    cell = 8


class Echo(Defense):
    """Posts photos that the linker enrolled; the share `strength` is another person's, the last image is blank."""

    name = "echo"
    title = "photos instead of generated images"
    differentiates = False

    surrogate: str = ""
    fails: str = ""
    hangs: str = ""
    dies: str = ""
    full_disk: bool = False
    pause: float = 0

    def surrogates(self) -> tuple[str, ...]:
        return (self.surrogate,) if self.surrogate else ()

    def release(self, images, bench):
        subject = bench.seeds.path[-1]
        if subject == self.fails:
            raise RuntimeError(f"no luck with {subject}\nsecond line")
        if subject == self.hangs:
            time.sleep(3600)
        if subject == self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.full_disk:
            raise OSError(errno.ENOSPC, "No space left on device", "cache")
        time.sleep(self.pause)
        others = round(self.strength * len(images))
        posted = [square(7, 1 + i) if i < others else square(int(subject[1:]), 5 + i) for i in range(len(images))]
        posted[-1] = np.full_like(posted[-1], 128)
        return np.stack(posted)


@lru_cache
def square(person: int, index: int) -> np.ndarray:
    image = photo(person, index).image
    return resize(face_square(image, detector().detect([image]).boxes[0], 1.6), 64)


PLUGINS = ((DATASETS, TinyORL), (ATTACKERS, Coarse), (ATTACKERS, Fine), (DEFENSES, Echo))


def install(patch: pytest.MonkeyPatch) -> None:
    """Known by name until the patch is undone."""
    for registry, cls in PLUGINS:
        patch.setitem(registry._added, cls.name, cls)  # type: ignore[attr-defined]


if __name__ == "__main__":
    from iddmbench.cli import main

    install(pytest.MonkeyPatch())
    main()
