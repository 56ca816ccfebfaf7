"""insightface's model packs: their recognition networks, without the insightface package (whose opencv-python needs libGL).

Detection and alignment are the shared ones; only the recognition file of a pack is kept. The checksums are those that
many independent projects state for the files of the v0.7 release.
"""

from iddmbench.attacker import NetworkAttacker
from iddmbench.nets.onnx_face import OnnxFace
from iddmbench.weights import WeightFile

RELEASE = "https://github.com/deepinsight/insightface/releases/download/v0.7"
LICENCE = "non-commercial research only (insightface)"


class _Pack(NetworkAttacker):
    dim = 512
    licence = LICENCE

    def load(self) -> OnnxFace:
        return OnnxFace(self.weights_path())


class BuffaloL(_Pack):
    """ArcFace ResNet-50 trained on WebFace600K (Deng et al., arXiv 1801.07698)."""

    name = "buffalo_l"
    title = "ArcFace ResNet-50, WebFace600K (512-D)"
    trained_on_datasets = ("webface600k",)
    source = "insightface v0.7, buffalo_l.zip: w600k_r50.onnx"
    file = WeightFile(
        "w600k_r50.onnx",
        f"{RELEASE}/buffalo_l.zip",
        LICENCE,
        "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
        "w600k_r50.onnx",
        288_621_354,
    )


class BuffaloS(_Pack):
    """ArcFace MobileFaceNet trained on WebFace600K."""

    name = "buffalo_s"
    title = "ArcFace MobileFaceNet, WebFace600K (512-D)"
    trained_on_datasets = ("webface600k",)
    source = "insightface v0.7, buffalo_s.zip: w600k_mbf.onnx"
    file = WeightFile(
        "w600k_mbf.onnx",
        f"{RELEASE}/buffalo_s.zip",
        LICENCE,
        "9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f",
        "w600k_mbf.onnx",
        127_607_557,
    )


class AntelopeV2(_Pack):
    """ArcFace ResNet-100 trained on Glint360K."""

    name = "antelopev2"
    title = "ArcFace ResNet-100, Glint360K (512-D)"
    trained_on_datasets = ("glint360k",)
    source = "insightface v0.7, antelopev2.zip: glintr100.onnx"
    file = WeightFile(
        "glintr100.onnx",
        f"{RELEASE}/antelopev2.zip",
        LICENCE,
        "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf",
        "glintr100.onnx",
        360_662_982,
    )
