"""Quality of single images: against a reference (PSNR, SSIM), or as a face for recognition (SER-FIQ)."""

import numpy as np

SSIM_SIGMA, SSIM_RADIUS = 1.5, 5


def psnr(images: np.ndarray, references: np.ndarray, peak: float = 255) -> np.ndarray:
    """Peak signal-to-noise ratio 10 log10(peak^2 / mean squared error) in dB, per image; higher is closer.

    Args:
        images, references: [N, H, W, C], same shape; uint8, or float with `peak` the largest possible value.

    Returns: float [N]; +inf for equal images.

    Raises ValueError for unequal or wrong shapes.
    """
    a, b = _pair(images, references)
    error = ((a - b) ** 2).mean((1, 2, 3))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(peak**2 / error)


def ssim(images: np.ndarray, references: np.ndarray, peak: float = 255) -> np.ndarray:
    """Structural similarity (Wang et al. 2004, Eq. 13), per image: mean over channels and window positions.

    Gaussian window of sigma 1.5 and 11 x 11 pixels, K1 = 0.01, K2 = 0.03, population covariance, only windows that lie
    inside the image.

    Args:
        images, references: as for `psnr`; H and W at least 11.

    Returns: float [N] in [-1, 1]; 1 for equal images, higher is closer.

    Raises ValueError for unequal or wrong shapes, or images smaller than the window.
    """
    from scipy.ndimage import gaussian_filter

    a, b = _pair(images, references)
    if min(a.shape[1:3]) <= 2 * SSIM_RADIUS:
        raise ValueError(f"images of {a.shape[1]} x {a.shape[2]} are smaller than SSIM's 11 x 11 window")
    inside = slice(SSIM_RADIUS, -SSIM_RADIUS)

    def mean(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, SSIM_SIGMA, radius=SSIM_RADIUS, axes=(1, 2))[:, inside, inside]

    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    values = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return values.mean((1, 2, 3))


def ser_fiq(embeddings: np.ndarray) -> np.ndarray:
    """Face quality as the stability of stochastic embeddings (Terhoerst et al. 2020, arXiv 2003.09373, Eq. 1).

    q = 2 sigmoid(-d), d the mean Euclidean distance between unit embeddings over the T (T - 1) / 2 pairs of passes. The
    mean is that of the authors' code; the paper's factor 2 / T^2 makes d smaller by (T - 1) / T.

    Args:
        embeddings: float [T, N, D] of N images under T >= 2 dropout masks.

    Returns: float [N] in (0.23, 1]; 1 for embeddings that dropout does not move, higher is better. The scale depends on
        the network and its dropout rate: compare within one network only.

    Raises ValueError for fewer than two passes, NaN or a zero vector (no face: leave it out and count it).
    """
    from scipy.spatial.distance import pdist
    from scipy.special import expit

    x = np.asarray(embeddings, dtype=np.float64)
    if x.ndim != 3 or x.shape[0] < 2:
        raise ValueError(f"embeddings must be [T, N, D] with T >= 2, got shape {x.shape}")
    norms = np.linalg.norm(x, axis=2, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise ValueError("embeddings hold NaN, infinity or a zero vector")
    x = x / norms
    return np.array([2 * expit(-pdist(x[:, n]).mean()) for n in range(x.shape[1])])


def _pair(images: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(images, dtype=np.float64), np.asarray(references, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(f"images {a.shape} and references {b.shape} must both be [N, H, W, C]")
    return a, b
