"""Local binary patterns: Ahonen, Hadid, Pietikäinen, "Face description with local binary patterns", IEEE TPAMI 28(12), 2006."""

import hashlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from iddmbench.faces.align import ARCFACE_112
from iddmbench.nets.face_net import FaceNet, to_gray

POINTS, UNIFORM = 8, 59
"""Neighbours of a pixel; 58 codes with at most two changes between 0 and 1 around the circle, and one bin for the rest."""

GRID = 7
"""Cells per side of the crop."""

INNER = (slice(2, 6), slice(2, 5))
"""Rows and columns of the inner face: 32 to 96 of 112 pixels downwards, 32 to 80 across, from brows to chin and between the
outer ends of the eyes. On undefended images of the 12 tuning people of `synthetic` rank 1 is 68 % with these, 40 % with all."""
INNER_CELLS = 4 * 3


class LBPHNet(FaceNet):
    """Histograms of uniform patterns LBP(8, radius) over a grid of the aligned gray face.

    The vector holds the square roots of each cell's shares, so that a cosine is the mean Bhattacharyya coefficient of
    the cells (the paper compares by chi square).

    Args:
        radius: of the circle, in pixels of the 112 x 112 crop. inner: only the cells of INNER.
    """

    name, size, template = "lbph", 112, ARCFACE_112
    dim, inner_dim = GRID * GRID * UNIFORM, INNER_CELLS * UNIFORM

    def __init__(self, radius: float = 2.0, inner: bool = False):
        super().__init__()
        self.radius, self.inner = radius, inner
        if inner:
            self.dim = self.inner_dim
        part = " inner" if inner else ""
        self.weights_sha256 = hashlib.sha256(f"lbph 1 {radius} {GRID}{part}".encode()).hexdigest()
        self.register_buffer("bins", torch.from_numpy(uniform_bins()))
        self.freeze()

    def features(self, crops: Tensor) -> Tensor:
        gray = to_gray(crops)
        bins = self.get_buffer("bins")[patterns(gray, self.radius)]  # [N, h, w]
        share = F.one_hot(bins, UNIFORM).float().permute(0, 3, 1, 2)
        cells = F.adaptive_avg_pool2d(share, GRID)  # [N, 59, rows, columns]
        return (cells[:, :, INNER[0], INNER[1]] if self.inner else cells).sqrt().flatten(1)


class SoftLBPHNet(LBPHNet):
    """`LBPHNet` with a gradient: what a defense optimizes against.

    A bit is set with probability sigmoid((neighbour - pixel) / TEMPERATURE), the eight independently, so that a pixel votes
    for each uniform code by the product of its bits' probabilities; the square root is that of the share plus FLOOR.
    """

    TEMPERATURE, FLOOR = 0.01, 1e-3

    def features(self, crops: Tensor) -> Tensor:
        gray = to_gray(crops)
        center, around = neighbours(gray, self.radius)
        steps = (torch.stack(around, -1) - center[..., None]) / self.TEMPERATURE  # [N, h, w, 8]
        cells = [steps[:, top:bottom, left:right] for top, bottom, left, right in self.cells(*steps.shape[1:3])]
        codes = torch.arange(256, device=gray.device)[self.get_buffer("bins") < UNIFORM - 1]
        bits = ((codes[None] >> torch.arange(POINTS, device=gray.device)[:, None]) & 1).to(gray)  # [8, 58]
        # sum over bits of log p where it is set, of log (1 - p) where it is not: log (1 - p) = log p - x
        uniform = torch.stack(
            [(F.logsigmoid(cell).sum(-1, keepdim=True) - cell @ (1 - bits)).exp().mean((1, 2)) for cell in cells],
            2,
        )  # [N, 58, cells]
        share = torch.cat((uniform, 1 - uniform.sum(1, keepdim=True)), 1)
        return (share.clamp(min=0) + self.FLOOR).sqrt().flatten(1)

    def cells(self, height: int, width: int) -> list[tuple[int, int, int, int]]:
        """Top, bottom, left and right of each cell, as adaptive pooling cuts them, row by row."""
        rows, columns = ([(i * n // GRID, -(-(i + 1) * n // GRID)) for i in range(GRID)] for n in (height, width))
        if self.inner:
            rows, columns = rows[INNER[0]], columns[INNER[1]]
        return [(*row, *column) for row in rows for column in columns]


def patterns(gray: Tensor, radius: float) -> Tensor:
    """int64 codes [N, H - 2m, W - 2m] in 0..255 of float [N, H, W]; m = ceil(radius) pixels of the border have none.

    Bit p is set where the neighbour at angle 2 pi p / 8 (counter-clockwise from the right) is no darker than the pixel;
    between pixels it is interpolated bilinearly.
    """
    center, around = neighbours(gray, radius)
    codes = torch.zeros(center.shape, dtype=torch.int64, device=gray.device)
    for p, neighbour in enumerate(around):
        # Flat areas: rounding of the interpolation must not decide.
        codes += (neighbour >= center - 1e-6).long() << p
    return codes


def neighbours(gray: Tensor, radius: float) -> tuple[Tensor, list[Tensor]]:
    """The pixels that have a code, and their eight neighbours in turn: each [N, H - 2m, W - 2m], see `patterns`."""
    margin = int(np.ceil(radius))
    height, width = gray.shape[1] - 2 * margin, gray.shape[2] - 2 * margin
    center = gray[:, margin : margin + height, margin : margin + width]
    around = []
    for p in range(POINTS):
        # Rounded, so that the neighbours on the axes are pixels and not mixtures with a weight of 1e-16.
        dy, dx = (round(float(v), 5) for v in (-radius * np.sin(2 * np.pi * p / 8), radius * np.cos(2 * np.pi * p / 8)))
        y, x = int(np.floor(dy)), int(np.floor(dx))
        neighbour = torch.zeros_like(center)
        for oy, ox, weight in (
            (0, 0, (1 - dy + y) * (1 - dx + x)),
            (0, 1, (1 - dy + y) * (dx - x)),
            (1, 0, (dy - y) * (1 - dx + x)),
            (1, 1, (dy - y) * (dx - x)),
        ):
            if weight > 0:
                top, left = margin + y + oy, margin + x + ox
                neighbour = neighbour + weight * gray[:, top : top + height, left : left + width]
        around.append(neighbour)
    return center, around


def uniform_bins() -> np.ndarray:
    """int64 [256]: the histogram bin of each code; the uniform codes in rising order, then one bin for all others."""
    bits = (np.arange(256)[:, None] >> np.arange(POINTS)) & 1
    changes = (bits != np.roll(bits, 1, axis=1)).sum(1)
    bins = np.full(256, UNIFORM - 1)
    bins[changes <= 2] = np.arange((changes <= 2).sum())
    return bins
