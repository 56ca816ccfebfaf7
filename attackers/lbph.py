"""LBPH: histograms of local binary patterns, a classical system without training."""

from iddmbench.attacker import NetworkAttacker
from iddmbench.nets.lbp import LBPHNet


class LBPH(NetworkAttacker):
    """Local binary pattern histograms (Ahonen et al., IEEE TPAMI 28(12), 2006)."""

    name = "lbph"
    title = "local binary pattern histograms (classical)"
    dim = 7 * 7 * 59
    licence = "none needed"
    source = "computed; no weights"
    differentiable = False

    def load(self) -> LBPHNet:
        return LBPHNet()

    def require(self) -> None:
        _ = self.detector  # no weights

    def weights_hash(self) -> str:
        return self._network.weights_sha256
