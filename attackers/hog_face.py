"""Gradients of the inner face, a classical system without training."""

from iddmbench.attacker import NetworkAttacker
from iddmbench.nets.hog import FaceHogNet


class HogFace(NetworkAttacker):
    """Histograms of oriented gradients (Dalal and Triggs 2005) of the aligned inner face.

    No shipped defense optimizes against it, and it has no gradient that one could: it tells whether a defense that hides
    texture from `lbph:part=inner` and `gabor` hides it from others too.
    """

    name = "hog-face"
    title = "gradients of the inner face (classical)"
    dim = FaceHogNet.dim
    licence = "none needed"
    source = "computed; no weights"
    differentiable = False

    def load(self) -> FaceHogNet:
        return FaceHogNet()

    def require(self) -> None:
        _ = self.detector  # no weights

    def weights_hash(self) -> str:
        return self._network.weights_sha256
