"""What a face-recognition network is, once detection and alignment are taken out of it."""

from abc import ABC, abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from iddmbench.errors import UserError


def to_gray(crops: Tensor) -> Tensor:
    """float [N, H, W] of RGB crops [N, 3, H, W], by the weights of ITU-R BT.601."""
    return crops.mul(crops.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1)


class FaceNet(nn.Module, ABC):
    """An aligned face crop in, a unit vector out; differentiable in the crops, its own weights frozen.

    Attributes:
        name: registry-like short name.
        size: side of the square crop in pixels.
        template: float [5, 2], where the five landmarks lie in the crop, (x, y) in pixels, in the order of
            `Faces.landmarks`.
        dim: length of the vector.
        weights_sha256: of the file that the weights came from.
    """

    name: str
    size: int
    template: np.ndarray
    dim: int
    weights_sha256: str

    def forward(self, crops: Tensor) -> Tensor:
        """Unit vectors float32 [N, dim] of crops float32 [N, 3, size, size], RGB in [0, 1].

        Raises ValueError when the crops have another shape.
        """
        self.check(crops)
        return F.normalize(self.features(crops), dim=1)

    @abstractmethod
    def features(self, crops: Tensor) -> Tensor:
        """The network's own output [N, dim], before it is scaled to unit length. Crops as in `forward`."""

    def embed_stochastic(self, crops: Tensor, passes: int, generator: Generator) -> Tensor:
        """Unit vectors [passes, N, dim] with the network's dropout on, for SER-FIQ (Terhörst et al. 2020).

        Each pass draws one mask from `generator` and uses it for all N crops, so that what an image gets does not
        depend on the others of its batch. Raises UserError when the network has no dropout.
        """
        raise UserError(f"network '{self.name}' has no dropout layer, so it can't give stochastic embeddings")

    def check(self, crops: Tensor) -> None:
        """Raise ValueError unless crops are [N, 3, size, size] floats."""
        if crops.ndim != 4 or crops.shape[1:] != (3, self.size, self.size) or not crops.is_floating_point():
            wanted = f"float crops [N, 3, {self.size}, {self.size}]"
            raise ValueError(f"{self.name} takes {wanted}, got {crops.dtype} {tuple(crops.shape)}")

    def freeze(self) -> None:
        """Evaluation mode, no gradients for the weights, channels last (faster on CPUs); constructors end with it."""
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)
