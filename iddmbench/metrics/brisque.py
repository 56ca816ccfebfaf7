"""BRISQUE, quality without a reference: natural-scene statistics and a support vector regression on human scores.

Mittal, Moorthy, Bovik 2012, "No-Reference Image Quality Assessment in the Spatial Domain". The features are computed
here; the authors' regression, trained on LIVE, is brisque.safetensors: the numbers of the model file in the PyPI package
brisque 0.2.0 (Apache-2.0), which itself can't be a dependency because one of its own needs a compiler.
"""

from functools import lru_cache
from importlib.resources import files

import cv2
import numpy as np
from safetensors.numpy import load
from scipy.special import gammaln

LUMA = (0.2125, 0.7154, 0.0721)
SIGMA, RADIUS = 7 / 6, 3
FLAT = 100.0
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Neighbours whose products are modelled: right, below, and both diagonals (Eq. 7-10)."""

SHAPES = np.arange(0.2, 10.0005, 0.001)
RATIOS = np.exp(2 * gammaln(2 / SHAPES) - gammaln(1 / SHAPES) - gammaln(3 / SHAPES))
"""Shape of a generalized Gaussian and its ratio (E|x|)^2 / E x^2, on the authors' grid."""


def brisque(images: np.ndarray) -> np.ndarray:
    """BRISQUE score per image; lower is better, about 0 to 100 (not clipped: extremes pass the ends).

    Trained on photographs of about 500 x 700 pixels: on 64 x 64 images only comparisons at equal size mean something.

    Args:
        images: uint8 [N, H, W, 3] RGB, sides at least 16.

    Returns: float [N]. A flat image has no statistics and gets 100, the worst nominal score.

    Raises ValueError for other input.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or min(images.shape[1:3]) < 16:
        raise ValueError(f"images must be uint8 [N, H >= 16, W >= 16, 3], got {images.dtype} {images.shape}")
    flat = np.ptp(images, (1, 2)).max(1) == 0
    return np.array([FLAT if f else _regress(features(image)) for f, image in zip(flat, images, strict=True)])


def features(image: np.ndarray) -> np.ndarray:
    """The 36 features of one uint8 [H, W, 3] image: 18 at full and 18 at half size (Table I)."""
    gray = image.astype(np.float64) @ np.array(LUMA) / 255
    half = cv2.resize(gray, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)
    return np.concatenate([_scale_features(gray), _scale_features(half)])


def mscn(gray: np.ndarray) -> np.ndarray:
    """Mean-subtracted contrast-normalized luminance of float [H, W] in [0, 1] (Eq. 1-3; 7 x 7, zeros outside)."""
    from scipy.ndimage import correlate1d

    window = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * SIGMA**2))
    window /= window.sum()

    def blur(x: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(x, window, 0, mode="constant"), window, 1, mode="constant")

    mean = blur(gray)
    return (gray - mean) / (np.sqrt(np.abs(blur(gray**2) - mean**2)) + 1 / 255)


def fit_aggd(x: np.ndarray) -> tuple[float, float, float, float]:
    """Asymmetric generalized Gaussian fitted by moments (Lasmar et al. 2009; Eq. 11-16).

    Returns: shape, mean, left and right scale.
    """
    left, right = (float(np.sqrt((side**2).mean())) if side.size else 0.0 for side in (x[x < 0], x[x >= 0]))
    square = (x**2).mean()
    if square == 0:
        return float(SHAPES[-1]), 0.0, 0.0, 0.0
    # (g^3 + 1) (g + 1) / (g^2 + 1)^2 is the same for g and 1 / g, so the smaller scale goes on top
    g = min(left, right) / max(left, right)
    ratio = np.abs(x).mean() ** 2 / square * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
    shape = float(np.interp(ratio, RATIOS, SHAPES))
    log_mean = gammaln(2 / shape) - 0.5 * (gammaln(1 / shape) + gammaln(3 / shape))
    return shape, float((right - left) * np.exp(log_mean)), left, right


def _scale_features(gray: np.ndarray) -> np.ndarray:
    x = mscn(gray)
    shape, _, left, right = fit_aggd(x)
    values = [shape, (left**2 + right**2) / 2]
    for down, across in SHIFTS:
        here = x[: x.shape[0] - down, max(0, -across) : x.shape[1] - max(0, across)]
        there = x[down:, max(0, across) : x.shape[1] - max(0, -across)]
        shape, mean, left, right = fit_aggd(here * there)
        values += [shape, mean, left**2, right**2]
    return np.array(values)


def _regress(values: np.ndarray) -> float:
    model = _regression()
    scaled = -1 + 2 * (values - model["low"]) / (model["high"] - model["low"])
    kernel = np.exp(-model["gamma"] * ((model["vectors"] - scaled) ** 2).sum(1))
    return float(model["weights"] @ kernel - model["rho"])


@lru_cache(maxsize=1)
def _regression() -> dict[str, np.ndarray]:
    """Feature minima and maxima [36], kernel gamma, offset rho, support vectors [S, 36] and their weights [S]."""
    return load(files("iddmbench.metrics").joinpath("brisque.safetensors").read_bytes())
