"""LBPH: histograms of local binary patterns, a classical system without training."""

from typing import Literal

from pydantic import Field

from iddmbench.attacker import ComputedAttacker, NetworkOptions
from iddmbench.nets.lbp import LBPHNet, SoftLBPHNet

Part = Literal["all", "inner"]

RADIUS: dict[Part, float] = {"all": 2.0, "inner": 3.0}
"""Of the patterns' circle, in pixels of the 112 x 112 crop. On undefended images of the 12 tuning people of `synthetic` the
inner face links 68 % with 2 pixels, 77 % with 3."""


class LBPHOptions(NetworkOptions):
    part: Part = Field(
        "all", description="the whole crop, or only from brows to chin and between the outer ends of the eyes"
    )


class LBPH(ComputedAttacker):
    """Local binary pattern histograms (Ahonen et al., IEEE TPAMI 28(12), 2006).

    `part=inner` compares the cells of the inner face alone, in coarser patterns: it links more of the undefended images, and
    neither hair nor backdrop has a share in that. (The paper weighs the cells, to the same end.)
    """

    name = "lbph"
    title = "local binary pattern histograms (classical)"
    dim = LBPHNet.dim
    Options = LBPHOptions
    options: LBPHOptions

    def use(self, options: LBPHOptions) -> None:  # type: ignore[override]
        super().use(options)
        if options.part == "inner":
            self.title = f"{self.title}: inner face"  # type: ignore[misc]
            self.dim = LBPHNet.inner_dim  # type: ignore[misc]

    def load(self) -> LBPHNet:
        part = self.options.part
        return LBPHNet(RADIUS[part], inner=part == "inner")

    def network(self) -> SoftLBPHNet:
        """A smooth version of what `embed` uses, for defenses."""
        part = self.options.part
        return SoftLBPHNet(RADIUS[part], inner=part == "inner").to(self.device)
