"""Gabor wavelets of the inner face, a classical system without training."""

from iddmbench.attacker import NetworkAttacker
from iddmbench.nets.gabor import GaborNet


class Gabor(NetworkAttacker):
    """Jets of Gabor wavelets (Lades et al. 1993, Wiskott et al. 1997) at fixed places of the aligned inner face: no graph is
    fitted."""

    name = "gabor"
    title = "Gabor wavelets of the inner face (classical)"
    dim = GaborNet.dim
    licence = "none needed"
    source = "computed; no weights"

    def load(self) -> GaborNet:
        return GaborNet()

    def require(self) -> None:
        _ = self.detector  # no weights

    def weights_hash(self) -> str:
        return self._network.weights_sha256
