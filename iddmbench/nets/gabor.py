"""Jets of Gabor wavelets: Lades et al., "Distortion invariant object recognition in the dynamic link architecture", IEEE
Trans. Computers 42(3), 1993; Wiskott, Fellous, Krüger, von der Malsburg, IEEE TPAMI 19(7), 1997."""

import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from iddmbench.faces.align import ARCFACE_112
from iddmbench.nets.face_net import FaceNet, to_gray
from iddmbench.nets.lbp import GRID, INNER

SCALES, DIRECTIONS, SIGMA = 5, 8, 2 * math.pi
"""As in both papers: wave numbers 2^(-(v + 2) / 2) pi for v = 0..4, that is wavelengths of 4 to 16 pixels; angles mu pi / 8."""

CELL, STEP = 112 // GRID, 8
ROWS, COLUMNS = ((CELL * cells.start, CELL * cells.stop) for cells in INNER)
"""The inner face as `lbp` has it, and STEP from jet to jet, in pixels of the 112 x 112 crop: 8 x 6 jets."""


class GaborNet(FaceNet):
    """Magnitudes of Gabor wavelets on a grid over the inner face of the aligned gray crop; what lies around it is cut off.

    Each jet, the 40 magnitudes of one place, has unit length, so that a cosine of two vectors is the mean over the places of
    the papers' similarity of jets, which knows no contrast.
    """

    name, size, template = "gabor", 112, ARCFACE_112
    dim = len(range(*ROWS, STEP)) * len(range(*COLUMNS, STEP)) * SCALES * DIRECTIONS

    def __init__(self) -> None:
        super().__init__()
        parts = f"gabor 1 {SCALES} {DIRECTIONS} {SIGMA:.6f} {ROWS} {COLUMNS} {STEP}"
        self.weights_sha256 = hashlib.sha256(parts.encode()).hexdigest()
        self.register_buffer("bank", wavelets(self.size))
        self.freeze()

    def features(self, crops: Tensor) -> Tensor:
        gray = to_gray(crops)
        bank = self.get_buffer("bank")
        jets = torch.stack([magnitudes(face, bank) for face in inner(gray)])
        return F.normalize(jets, dim=1).flatten(1)


def inner(gray: Tensor) -> Tensor:
    """float [N, H, W] less the inner face's mean, and 0 around that."""
    rows, columns = slice(*ROWS), slice(*COLUMNS)
    face = gray[:, rows, columns]
    alone = torch.zeros_like(gray)
    alone[:, rows, columns] = face - face.mean((1, 2), keepdim=True)
    return alone


def magnitudes(gray: Tensor, bank: Tensor) -> Tensor:
    """|wavelet * image| at the grid's places, float [K, rows, columns], of float [H, H] and `wavelets(H)` [K, H, H].

    The image is taken as periodic.
    """
    found = torch.fft.ifft2(torch.fft.fft2(gray) * bank).abs()
    rows, columns = (slice(start + STEP // 2, stop, STEP) for start, stop in (ROWS, COLUMNS))
    return found[:, rows, columns]


def wavelets(side: int) -> Tensor:
    """Fourier transforms of the wavelets on a grid of side x side pixels, float [SCALES * DIRECTIONS, side, side].

    psi(x) = k^2 / sigma^2 exp(-k^2 x^2 / (2 sigma^2)) (exp(i k x) - exp(-sigma^2 / 2)), whose transform at w is, but for the
    factor 2 pi, exp(-sigma^2 (w - k)^2 / (2 k^2)) - exp(-sigma^2 (w^2 + k^2) / (2 k^2)): none of the mean gray.
    """
    axis = torch.fft.fftfreq(side, dtype=torch.float64) * 2 * math.pi
    wy, wx = torch.meshgrid(axis, axis, indexing="ij")
    bank = []
    for v in range(SCALES):
        k = 2 ** (-(v + 2) / 2) * math.pi
        for mu in range(DIRECTIONS):
            kx, ky = k * math.cos(mu * math.pi / DIRECTIONS), k * math.sin(mu * math.pi / DIRECTIONS)
            scale = SIGMA**2 / (2 * k**2)
            wave = torch.exp(-scale * ((wx - kx) ** 2 + (wy - ky) ** 2))
            bank.append(wave - torch.exp(-scale * (wx**2 + wy**2 + k**2)))
    return torch.stack(bank).float()
