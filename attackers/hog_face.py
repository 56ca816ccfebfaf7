"""Gradients of the inner face, a classical system without training."""

from iddmbench.attacker import ComputedAttacker
from iddmbench.nets.hog import FaceHogNet


class HogFace(ComputedAttacker):
    """Histograms of oriented gradients (Dalal and Triggs 2005) of the aligned inner face.

    No shipped defense optimizes against it, and it has no gradient that one could: it tells whether a defense that hides
    texture from `lbph:part=inner` and `gabor` hides it from others too.
    """

    name = "hog-face"
    title = "gradients of the inner face (classical)"
    dim = FaceHogNet.dim
    differentiable = False

    def load(self) -> FaceHogNet:
        return FaceHogNet()
