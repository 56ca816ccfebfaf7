"""From five landmarks to the square crop that a recognition network was trained on."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ARCFACE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""[5, 2] in a 112 x 112 crop; insightface's `face_align.py` and OpenCV's FaceRecognizerSF use it."""

DLIB_150 = np.array([[45.7, 45.2], [101.3, 45.2], [73.5, 74.7], [50.2, 98.7], [96.8, 98.7]], np.float32)
"""[5, 2] in dlib's 150 x 150 chip (padding 0.25): where YuNet's landmarks lie on average in the chips that dlib's own
five-point predictor makes of ORL's public people, made symmetric."""

MAX_STEP = 1.5
"""Source pixels between two samples, at most; beyond it, several samples are averaged (no aliasing)."""


def similarity(landmarks: np.ndarray, template: np.ndarray) -> np.ndarray:
    """The similarity transforms (rotation, one scale, shift) that fit landmarks to a template best.

    Least squares; Umeyama, IEEE TPAMI 13(4), 1991, in the plane, where it has a closed form: with centered points as
    complex numbers p and q, the factor is sum(conj(p) q) / sum(|p|^2).

    Args:
        landmarks: float [N, 5, 2], (x, y) in image pixels (0 is the center of the first one). NaN gives NaN.
        template: float [5, 2], the same points in crop pixels.

    Returns float32 [N, 2, 3], image to crop coordinates. Raises ValueError on other shapes, and when the points of a
    face coincide.
    """
    points, target = np.asarray(landmarks, np.float64), np.asarray(template, np.float64)
    if points.ndim != 3 or target.ndim != 2 or points.shape[1:] != target.shape or target.shape[1] != 2:
        raise ValueError(f"landmarks must be [N, K, 2] and template [K, 2], got {points.shape} and {target.shape}")
    p, q = points[..., 0] + 1j * points[..., 1], target[:, 0] + 1j * target[:, 1]
    p_mean, q_mean = p.mean(1, keepdims=True), q.mean()
    spread = (np.abs(p - p_mean) ** 2).sum(1)
    if np.any(spread < 1e-9):
        raise ValueError("the landmarks of a face coincide, so no transform fits")
    with np.errstate(invalid="ignore"):
        factor = (np.conj(p - p_mean) * (q - q_mean)).sum(1) / spread
    shift = q_mean - factor * p_mean[:, 0]
    rows = [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    return np.array(rows, np.float32).transpose(2, 0, 1)


def crop(images: Tensor, matrices: Tensor, size: int) -> Tensor:
    """Aligned crops by bilinear sampling, differentiable in the images.

    Args:
        images: float [N, 3, H, W], any range.
        matrices: float [N, 2, 3], image to crop coordinates in pixels (`similarity`).
        size: side of the crop.

    Returns [N, 3, size, size] in the images' range; 0 outside the image, as OpenCV's and dlib's own crops have it
    (repeating the edge instead lost SFace 0.9 points of TAR at FAR 1e-3, and dlib 0.8, on randomly framed 64 x 64
    cuts of ORL against whole photos; between two central cuts dlib gained 1.1). A crop that is more than 1.5 times
    smaller than what it shows is the mean of several samples per pixel. Each image's crop is independent of the
    others'. Raises ValueError when the shapes do not fit, or a matrix is not finite.
    """
    if images.ndim != 4 or matrices.shape != (len(images), 2, 3):
        raise ValueError(f"images must be [N, C, H, W] and matrices [N, 2, 3]: {images.shape}, {matrices.shape}")
    matrices = matrices.to(images)
    if not bool(torch.isfinite(matrices).all()):
        raise ValueError("a crop matrix is not finite: leave out the images in which no face was found")
    linear = torch.linalg.inv(matrices[:, :, :2])
    step = linear.norm(dim=1).amax(1)
    samples = (step.detach() / MAX_STEP).ceil().clamp(min=1).long()
    crops = images.new_zeros(len(images), images.shape[1], size, size)
    for count in samples.unique().tolist():
        rows = (samples == count).nonzero().flatten()
        # index_copy keeps the graph, and leaves a batch that needs one sample count alone
        part = _sample(images[rows], linear[rows], matrices[rows, :, 2], size, count)
        crops = part if len(rows) == len(images) else crops.index_copy(0, rows, part)
    return crops


def _sample(images: Tensor, linear: Tensor, shift: Tensor, size: int, count: int) -> Tensor:
    height, width = images.shape[2:]
    # centers of count x count samples in each crop pixel, in crop coordinates
    axis = (torch.arange(size * count, device=images.device, dtype=images.dtype) + 0.5) / count - 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    target = torch.stack([x, y], -1).reshape(1, -1, 2) - shift[:, None]
    source = target @ linear.transpose(1, 2)
    extent = torch.tensor([width, height], device=images.device, dtype=images.dtype)
    grid = ((2 * source + 1) / extent - 1).view(len(images), size * count, size * count, 2)
    sampled = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return F.avg_pool2d(sampled, count) if count > 1 else sampled
