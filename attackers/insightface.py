"""insightface's model packs: their recognition networks, without the insightface package (whose opencv-python needs libGL).

Detection and alignment are the shared ones; only the recognition file of a pack is kept. The checksums are those that
many independent projects state for the files of the v0.7 release.

insightface 2.1's own packs for faces are raccoon_s and raccoon_l, of its release "model-zoo"; the manifest.json in them names
their recognition file. Its documentation (python-package/docs/model_zoo.md) says of the packs cheetah_s and cheetah_l that
their recognition files are those of buffalo_s and buffalo_l, and also those of raccoon_s and raccoon_l: raccoon_* is thus no
further system beside buffalo_*, but a smaller download of the same one (36.6 instead of 127.6 MB).
"""

from iddmbench.archives import OF_MANIFEST
from iddmbench.attacker import NetworkAttacker
from iddmbench.nets.onnx_face import OnnxFace
from iddmbench.weights import WeightFile

RELEASE = "https://github.com/deepinsight/insightface/releases/download/v0.7"
MODEL_ZOO = "https://github.com/deepinsight/insightface/releases/download/model-zoo"
RECOGNITION = f"recognition{OF_MANIFEST}"
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


class RaccoonL(_Pack):
    """The network of insightface 2.1's large pack, said to be `buffalo_l`'s. Nobody publishes its checksum."""

    name = "raccoon_l"
    title = "insightface 2.1 raccoon_l (512-D); by its documentation buffalo_l's network"
    trained_on_datasets = ("webface600k",)  # as of the pack that it repeats
    source = "insightface model-zoo, raccoon_l.zip: the recognition file of its manifest"
    file = WeightFile("raccoon_l.onnx", f"{MODEL_ZOO}/raccoon_l.zip", LICENCE, member=RECOGNITION, bytes=255_100_000)
    same_as = "buffalo_l"


class RaccoonS(_Pack):
    """The network of insightface 2.1's small pack, said to be `buffalo_s`'s."""

    name = "raccoon_s"
    title = "insightface 2.1 raccoon_s (512-D); by its documentation buffalo_s's network"
    trained_on_datasets = ("webface600k",)  # as of the pack that it repeats
    source = "insightface model-zoo, raccoon_s.zip: the recognition file of its manifest"
    file = WeightFile("raccoon_s.onnx", f"{MODEL_ZOO}/raccoon_s.zip", LICENCE, member=RECOGNITION, bytes=36_600_000)
    same_as = "buffalo_s"
