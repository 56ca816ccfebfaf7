"""benchmarks/denoising_error.py: the base's error on pictures, in units of its error on photos."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from denoising_error import Judge  # noqa: E402

from iddmbench.datasets.orl import photo  # noqa: E402
from iddmbench.faces.detect import YuNet  # noqa: E402
from iddmbench.models.base import load_base  # noqa: E402
from iddmbench.photos.references import crop_photo  # noqa: E402


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    base, detector = load_base("micro"), YuNet()
    cut = [crop_photo(photo(person, k), base, detector) for person in range(1, 9) for k in (1, 2)]
    return np.stack([one for one in cut if one is not None])


def test_photos_have_one_and_spoiled_faces_more(photos: np.ndarray) -> None:
    judge = Judge(load_base("micro"), photos)
    usual = judge.errors(photos)
    assert np.median(usual) == pytest.approx(1)
    assert judge.errors(photos[3:4])[0] == pytest.approx(usual[3], rel=1e-4)  # whatever stands beside it
    patched, turned = photos.copy(), photos.copy()
    patched[:, 24:40, 20:32] = patched[:, 24:40, 32:44]  # half of the face twice
    turned[:, 20:52, 16:48] = turned[:, 20:52, 16:48][:, ::-1]
    noise = np.clip(photos + 20 * np.random.default_rng(0).normal(size=photos.shape[:3])[..., None], 0, 255).astype(
        np.uint8
    )
    for spoiled in (patched, turned, noise):
        assert (judge.errors(spoiled) > usual).mean() > 0.9
    assert judge.errors(noise).mean() > 1.3
