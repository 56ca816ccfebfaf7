"""Eigenfaces: Turk and Pentland, "Eigenfaces for recognition", J. Cognitive Neuroscience 3(1), 1991."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from iddmbench.faces.align import ARCFACE_112, crop, similarity
from iddmbench.faces.detect import Detector
from iddmbench.nets.face_net import FaceNet, to_gray


class EigenfacesNet(FaceNet):
    """Whitened principal components of aligned gray faces, scaled to zero mean and unit variance each.

    The first `skip` components, mostly light, are left out (Belhumeur et al., IEEE TPAMI 19(7), 1997).

    Args:
        photos: uint8 [H, W, 3], what the components are computed of: faces of people who are not subjects.
        detector: finds the faces; photos without one are left out.
        origin: names the photos, for the fingerprint.
    """

    name, size, template = "eigenfaces", 112, ARCFACE_112
    SIDE = 56
    """Faces are averaged down to this side first."""

    def __init__(
        self, photos: Sequence[np.ndarray], detector: Detector, origin: str, components: int = 60, skip: int = 3
    ):
        super().__init__()
        self.dim = components
        parts = f"eigenfaces 1 {origin} {detector.fingerprint()} {components} {skip} {self.SIDE}"
        self.weights_sha256 = hashlib.sha256(parts.encode()).hexdigest()
        faces = detector.detect(photos)
        rows = [photo for photo, found in zip(photos, faces.found, strict=True) if found]
        matrices = torch.from_numpy(similarity(faces.landmarks[faces.found], self.template))
        crops = [
            crop(torch.from_numpy(row).permute(2, 0, 1)[None].float() / 255, m[None], self.size)
            for row, m in zip(rows, matrices, strict=True)
        ]
        data = self._pixels(torch.cat(crops)).double().numpy()
        if len(data) < components + skip + 1:
            raise ValueError(f"{len(data)} faces can't give {components} + {skip} components")
        mean = data.mean(0)
        _, values, axes = np.linalg.svd(data - mean, full_matrices=False)
        axes = axes * np.sign(axes.sum(1, keepdims=True))  # a component's sign is arbitrary: fix it
        chosen = slice(skip, skip + components)
        scale = values[chosen] / np.sqrt(len(data) - 1)
        self.register_buffer("mean", torch.from_numpy(mean).float())
        self.register_buffer("basis", torch.from_numpy(axes[chosen] / scale[:, None]).float())
        self.freeze()

    def features(self, crops: Tensor) -> Tensor:
        return (self._pixels(crops) - self.get_buffer("mean")) @ self.get_buffer("basis").T

    def _pixels(self, crops: Tensor) -> Tensor:
        gray = to_gray(crops)[:, None]
        x = torch.nn.functional.avg_pool2d(gray, self.size // self.SIDE).flatten(1)
        x = x - x.mean(1, keepdim=True)
        return x / x.std(1, keepdim=True).clamp(min=1e-3)
