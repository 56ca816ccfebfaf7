"""Gabor wavelets of the inner face, a classical system without training."""

from iddmbench.attacker import ComputedAttacker
from iddmbench.nets.gabor import GaborNet


class Gabor(ComputedAttacker):
    """Jets of Gabor wavelets (Lades et al. 1993, Wiskott et al. 1997) at fixed places of the aligned inner face: no graph is
    fitted."""

    name = "gabor"
    title = "Gabor wavelets of the inner face (classical)"
    dim = GaborNet.dim

    def load(self) -> GaborNet:
        return GaborNet()
