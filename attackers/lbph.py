"""LBPH: histograms of local binary patterns, a classical system without training."""

from typing import Literal

from pydantic import Field

from iddmbench.attacker import NetworkAttacker, NetworkOptions
from iddmbench.nets.lbp import LBPHNet


class LBPHOptions(NetworkOptions):
    part: Literal["all", "inner"] = Field(
        "all", description="the whole crop, or only from brows to chin and between the outer ends of the eyes"
    )
    radius: float = Field(2.0, ge=1, le=8, description="of the patterns' circle, in pixels of the 112 x 112 crop")


class LBPH(NetworkAttacker):
    """Local binary pattern histograms (Ahonen et al., IEEE TPAMI 28(12), 2006).

    `part=inner` compares the cells of the inner face alone, as the paper's weights of the cells do in a smoother way: it links
    more of the undefended images, and neither hair nor backdrop has a share in that.
    """

    name = "lbph"
    title = "local binary pattern histograms (classical)"
    dim = LBPHNet.dim
    licence = "none needed"
    source = "computed; no weights"
    differentiable = False
    Options = LBPHOptions
    options: LBPHOptions

    def use(self, options: LBPHOptions) -> None:  # type: ignore[override]
        super().use(options)
        if options.part == "inner":
            self.title = f"{self.title}: inner face"  # type: ignore[misc]
            self.dim = LBPHNet.inner_dim  # type: ignore[misc]

    def load(self) -> LBPHNet:
        return LBPHNet(self.options.radius, inner=self.options.part == "inner")

    def require(self) -> None:
        _ = self.detector  # no weights

    def weights_hash(self) -> str:
        return self._network.weights_sha256
