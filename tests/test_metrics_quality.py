import numpy as np
import pytest
from sklearn.metrics.pairwise import euclidean_distances

from iddmbench.metrics.quality import psnr, ser_fiq, ssim


def pair(side: int = 40, noise: float = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    clean = rng.uniform(0, 255, (3, side // 8 + 1, side // 8, 3)).repeat(8, 1).repeat(8, 2)
    noisy = clean + noise * rng.normal(size=clean.shape)
    return noisy.clip(0, 255).astype(np.uint8), clean.astype(np.uint8)


def test_psnr_and_ssim_equal_skimage():
    skimage = pytest.importorskip("skimage.metrics")
    images, references = pair()
    expected = [skimage.peak_signal_noise_ratio(r, i, data_range=255) for i, r in zip(images, references, strict=True)]
    np.testing.assert_allclose(psnr(images, references), expected)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": -1}
    expected = [
        skimage.structural_similarity(r, i, data_range=255, **options) for i, r in zip(images, references, strict=True)
    ]
    np.testing.assert_allclose(ssim(images, references), expected, rtol=1e-6)
    np.testing.assert_allclose(ssim(images / 255, references / 255, peak=1), expected, rtol=1e-6)


def test_psnr_by_hand():
    zeros = np.zeros((1, 2, 2, 3), np.uint8)
    one_off = zeros.copy()
    one_off[0, 0, 0, 0] = 255  # mean squared error 255^2 / 12
    assert psnr(one_off, zeros)[0] == pytest.approx(10 * np.log10(12))
    assert psnr(zeros, zeros)[0] == np.inf


def test_equal_images_and_more_noise():
    reference = pair()[1]
    np.testing.assert_allclose(ssim(reference, reference), 1)
    values = [ssim(pair(noise=s)[0], reference).mean() for s in (5, 20, 80)]
    assert values == sorted(values, reverse=True)


def test_bad_images_are_refused():
    with pytest.raises(ValueError, match=r"\[N, H, W, C\]"):
        psnr(np.zeros((1, 4, 4, 3)), np.zeros((1, 4, 5, 3)))
    with pytest.raises(ValueError, match="window"):
        ssim(np.zeros((1, 10, 40, 3)), np.zeros((1, 10, 40, 3)))


def test_ser_fiq_equals_the_authors_formula():
    """face_image_quality.py of the authors: mean over the upper triangle, 2 / (1 + exp(mean))."""
    x = np.random.default_rng(0).normal(size=(7, 3, 16)) + 3
    for n, quality in enumerate(ser_fiq(x)):
        unit = x[:, n] / np.linalg.norm(x[:, n], axis=1, keepdims=True)
        distances = euclidean_distances(unit, unit)[np.triu_indices(7, k=1)]
        assert quality == pytest.approx(2 / (1 + np.exp(distances.mean())))


def test_ser_fiq_limits():
    steady = np.ones((5, 1, 4))
    assert ser_fiq(steady)[0] == 1 and ser_fiq(9 * steady)[0] == 1
    opposite = np.array([[[1.0, 0]], [[-1.0, 0]]])
    assert ser_fiq(opposite)[0] == pytest.approx(2 / (1 + np.exp(2)))
    for bad in (np.ones((1, 2, 3)), np.zeros((2, 1, 3)), np.full((2, 1, 3), np.nan)):
        with pytest.raises(ValueError):
            ser_fiq(bad)
