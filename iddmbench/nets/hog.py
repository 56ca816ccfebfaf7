"""Histograms of oriented gradients: Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005."""

import hashlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from iddmbench.nets.face_net import FaceNet
from iddmbench.nets.faceres import BOX

ORIENTATIONS, CELL, BLOCK, CLIP, EPSILON = 9, 8, 2, 0.2, 1e-5
"""Bins of unsigned directions over 180 degrees; side of a cell in pixels and of a block in cells; where a block's normalized
values are cut off (L2-Hys)."""

SIDE, MARGIN = 96, 1.1
"""Side of the crop in pixels, and in units of the square around the face box. Rank 1 on ORL's people 1-28 (photos 1-4, cut as
`micro` takes them, among photos 5-10): 72 % at 96 and 1.1, 68 % at 1.2, 52 % at 1.4, where the cut ends; 66 % at 64 and 1.1."""

INNER = (0.2, 0.25, 0.8, 0.9)
"""Left, top, right and bottom of the inner face in units of the square around the face box: brows to below the mouth, from the
outer end of one eye to that of the other."""


class HogNet(FaceNet):
    """HOG of the aligned gray crop without the gradients of the inner face: what hair, outline, clothes, backdrop and light
    alone give away. Nothing is trained.

    Args:
        side: of the crop in pixels, a multiple of 8. margin: side of the crop in units of the square around the face box.
        inner: the region left out, as INNER; None for the whole crop.
    """

    name = "hog"

    def __init__(
        self,
        side: int = SIDE,
        margin: float = MARGIN,
        inner: tuple[float, float, float, float] | None = INNER,
    ):
        super().__init__()
        self.size = side
        self.template = (((BOX - 0.5) / margin + 0.5) * side - 0.5).astype(np.float32)
        self.dim = (side // CELL - BLOCK + 1) ** 2 * BLOCK**2 * ORIENTATIONS
        self.weights_sha256 = hashlib.sha256(f"hog 1 {side} {margin} {inner}".encode()).hexdigest()
        self.register_buffer("seen", torch.from_numpy(outside(side, margin, inner)))
        self.freeze()

    def features(self, crops: Tensor) -> Tensor:
        gray = crops.mul(crops.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1)
        return blocks(gray, self.get_buffer("seen")).flatten(1)


def outside(side: int, margin: float, inner: tuple[float, float, float, float] | None) -> np.ndarray:
    """Pixels whose gradient does not depend on the inner face: float32 [side, side] of 0 and 1."""
    seen = np.ones((side, side), np.float32)
    if inner is not None:
        left, top, right, bottom = (((v - 0.5) / margin + 0.5) * side for v in inner)
        first, last = (np.floor([top, left]).astype(int) - 1, np.ceil([bottom, right]).astype(int) + 1)
        seen[max(0, first[0]) : last[0], max(0, first[1]) : last[1]] = 0
    return seen


def blocks(gray: Tensor, seen: Tensor | None = None) -> Tensor:
    """Normalized blocks [N, B, B, 2 * 2 * 9] of float [N, H, H], H a multiple of 8, B = H / 8 - 1.

    Central differences, 0 at the border; each pixel's magnitude goes to the one bin of its direction (no interpolation), a cell
    is the mean over its pixels; L2-Hys per block of 2 x 2 cells.

    Args:
        seen: float [H, H], weight of each pixel's vote; all count by default. A block without votes is zero.
    """
    dy, dx = torch.zeros_like(gray), torch.zeros_like(gray)
    dy[:, 1:-1] = gray[:, 2:] - gray[:, :-2]
    dx[:, :, 1:-1] = gray[:, :, 2:] - gray[:, :, :-2]
    # In double, as a direction right at the end of a bin must not depend on rounding more than it has to.
    angle = torch.rad2deg(torch.atan2(dy.double(), dx.double())) % 180
    bins = (angle / (180 / ORIENTATIONS)).long().clamp(max=ORIENTATIONS - 1)
    votes = F.one_hot(bins, ORIENTATIONS) * torch.hypot(dx, dy)[..., None]  # [N, H, H, 9]
    if seen is not None:
        votes = votes * seen[:, :, None]
    cells = F.avg_pool2d(votes.permute(0, 3, 1, 2), CELL)  # [N, 9, C, C]
    several = cells.unfold(2, BLOCK, 1).unfold(3, BLOCK, 1)  # [N, 9, B, B, 2, 2]
    flat = several.permute(0, 2, 3, 4, 5, 1).flatten(3)
    cut = _unit(flat).clamp(max=CLIP)
    return _unit(cut)


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(-1, keepdim=True) + EPSILON**2).sqrt()
