"""HOG of all but the inner face: how far people are linked by hair, clothes, backdrop and light, whatever the face is."""

from iddmbench.attacker import NetworkAttacker
from iddmbench.errors import UserError
from iddmbench.nets.hog import HogNet


class Hog(NetworkAttacker):
    """Histograms of oriented gradients around the face (Dalal and Triggs 2005), nothing trained."""

    name = "hog"
    title = "gradients of all but the inner face (classical)"
    dim = HogNet().dim
    licence = "none needed"
    source = "computed; no weights"
    differentiable = False
    looks_past_the_face = True

    def load(self) -> HogNet:
        return HogNet()

    def available(self) -> str | None:
        try:
            _ = self.detector
        except UserError as error:
            return str(error)
        return None

    def weights_hash(self) -> str:
        return self._network.weights_sha256
