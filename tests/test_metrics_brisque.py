import numpy as np
import pytest
from scipy import stats

from iddmbench.metrics import brisque as ours


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    data = pytest.importorskip("skimage.data")
    return [data.astronaut()[:256, 100:356], data.chelsea()[50:250, 100:300], data.coffee()[::2, ::2]]


@pytest.fixture(scope="module")
def oracle():
    """The package's own computation. NumPy 2.4 no longer turns its one-element arrays into floats: done here."""
    package = pytest.importorskip("brisque", exc_type=ImportError)

    class Oracle(package.BRISQUE):
        def scale_features(self, features):
            return super().scale_features([np.asarray(value).item() for value in features])

    return Oracle(url=False)


def test_score_equals_the_package(oracle, photos):
    for photo in photos:
        assert ours.brisque(photo[None])[0] == pytest.approx(oracle.score(photo), abs=0.1)


def test_regression_equals_libsvm(oracle, photos):
    values = ours.features(photos[0])
    assert ours._regress(values) == pytest.approx(oracle.calculate_image_quality_score(values), abs=1e-6)


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0, 4.0])
def test_fit_recovers_a_generalized_gaussian(shape):
    rng = np.random.default_rng(0)
    x = stats.gennorm.rvs(shape, size=200_000, random_state=rng)
    fitted, mean, left, right = ours.fit_aggd(x)
    assert fitted == pytest.approx(shape, rel=0.03)
    assert left == pytest.approx(x.std(), rel=0.02) and right == pytest.approx(x.std(), rel=0.02)
    assert mean == pytest.approx(0, abs=0.02 * x.std())


def test_fit_of_an_asymmetric_one_mirrors():
    rng = np.random.default_rng(1)
    x = np.abs(rng.normal(size=100_000)) * np.where(rng.random(100_000) < 0.25, -1, 3)
    shape, mean, left, right = ours.fit_aggd(x)
    mirrored = ours.fit_aggd(-x)
    assert (left, right) == (pytest.approx(1, rel=0.02), pytest.approx(3, rel=0.02))
    assert shape == pytest.approx(2, rel=0.03)
    assert mirrored == pytest.approx((shape, -mean, right, left))


def test_damage_raises_the_score(photos):
    rng = np.random.default_rng(0)
    photo = photos[0]
    noisy = (photo + rng.normal(0, 40, photo.shape)).clip(0, 255).astype(np.uint8)
    blurred = photo[::8, ::8].repeat(8, 0).repeat(8, 1)
    clean, *damaged = ours.brisque(np.stack([photo, noisy, blurred]))
    assert min(damaged) > clean + 20


def test_flat_image_is_the_worst():
    assert ours.brisque(np.full((1, 32, 32, 3), 90, np.uint8))[0] == 100
    half = np.zeros((1, 64, 64, 3), np.uint8)
    half[:, :, 32:] = 255
    assert np.isfinite(ours.brisque(half)).all()


@pytest.mark.parametrize(
    "bad", [np.zeros((32, 32, 3), np.uint8), np.zeros((1, 32, 32, 3)), np.zeros((1, 8, 32, 3), "u1")]
)
def test_other_images_are_refused(bad):
    with pytest.raises(ValueError, match="uint8"):
        ours.brisque(bad)
