"""QMagFace (Terhörst et al., arXiv 2111.13475): MagFace's ResNet-100, compared by cosine and by how good both faces are.

MagFace (Meng et al., arXiv 2103.06627) is trained so that a vector's length, its magnitude, tells the face's quality. The
file's format is that of MagFace's `utils.save_checkpoint`: "state_dict", whose names begin with "features.module." (trained in
parallel) or "module.features.", beside the classifier of the training set.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from iddmbench.attacker import NetworkOptions
from iddmbench.attackers.pth import PthAttacker
from iddmbench.nets.ir_resnet import UNITS, IRResNet, from_insightface
from iddmbench.nets.pth_face import PthFace
from iddmbench.weights import WeightFile

PREFIXES = ("features.module.", "module.features.")
UNIT = 1e-3
"""Of a magnitude in the last number of a vector. MagFace's lie between 10 and 110."""


class MagFaceNet(PthFace):
    """Features [N, 513] of unit length that hold MagFace's direction and magnitude (`with_magnitude`)."""

    dim = 513

    def features(self, crops: Tensor) -> Tensor:
        return with_magnitude(self.body(crops.flip(1)))


def with_magnitude(features: Tensor) -> Tensor:
    """[N, D] -> unit vectors [N, D + 1]: the direction and UNIT times the magnitude, normalized together.

    Up to a magnitude of 110, MagFace's largest, their cosines are those of the directions to .025.
    """
    magnitude = features.norm(dim=1, keepdim=True)
    return F.normalize(torch.cat((features / magnitude.clamp(min=1e-12), magnitude * UNIT), 1), dim=1)


def parts(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `with_magnitude`: directions [N, D] and magnitudes [N]."""
    x = np.asarray(vectors, np.float64)
    lengths = np.maximum(np.linalg.norm(x[:, :-1], axis=1), 1e-12)
    return x[:, :-1] / lengths[:, None], x[:, -1] / lengths / UNIT


class QMagFaceOptions(NetworkOptions):
    alpha: float = Field(0.077428, description="quality weight at score 0, negated (QMagFace's README, --alpha)")
    beta: float = Field(0.125926, description="how the quality weight grows with the score (QMagFace's README, --beta)")


class QMagFace(PthAttacker):
    """MagFace with QMagFace's score; `alpha=0,beta=0` is MagFace itself, by cosine.

    Where another part of the suite compares vectors by cosine (as a surrogate, adaptive attackers that wrap it, doubts about
    photos), quality plays no role.
    """

    name = "qmagface"
    what = "MagFace's ResNet-100"
    title = "QMagFace: MagFace ResNet-100, MS1MV2, quality-aware score (513-D)"
    dim = 513
    similarity = "own"
    trained_on_datasets = ("ms1m",)
    licence = "Apache-2.0 (MagFace), CC BY-NC 4.0 (QMagFace); the training data's own terms"
    source = "IrvingMeng/MagFace, model zoo: magface_epoch_00025.pth"
    file = WeightFile("magface_epoch_00025.pth", "https://github.com/IrvingMeng/MagFace", licence, by_hand=True)
    Options = QMagFaceOptions
    network_type = MagFaceNet

    @staticmethod
    def body(state: Mapping[str, Tensor]) -> IRResNet:
        return IRResNet(UNITS[100], middle=True, project=True, eps=2e-5)

    @staticmethod
    def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Without the classifier of the training set's people."""
        own = {k.removeprefix(p): v for p in PREFIXES for k, v in state.items() if k.startswith(p)}
        return from_insightface(own, UNITS[100])

    def compare(self, probes: np.ndarray, photos: np.ndarray) -> np.ndarray:
        """s + min(beta s - alpha, 0) q, with s the cosine and q the lesser magnitude (its similarity/qmagface.py).

        A person is enrolled as QMagFace's experiments on IJB combine photos: the direction of the sum of vectors weighted by
        their magnitudes, with the magnitude sum q^2 / sum q.
        """
        directions, quality = parts(probes)
        enrolled, magnitudes = parts(photos)
        template = (enrolled * magnitudes[:, None] ** 2).sum(0)
        cosines = directions @ (template / max(float(np.linalg.norm(template)), 1e-12))
        total = float((magnitudes**2).sum() / max(magnitudes.sum(), 1e-12))
        weight = np.minimum(self.options.beta * cosines - self.options.alpha, 0)
        return cosines + weight * np.minimum(quality, total)
