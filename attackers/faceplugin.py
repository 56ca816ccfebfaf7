"""The recognition network of faceplugin's browser package: a MobileFaceNet in ArcFace's convention."""

from iddmbench.attacker import NetworkAttacker
from iddmbench.nets.onnx_face import OnnxFace
from iddmbench.weights import WeightFile


class FrFeature(NetworkAttacker):
    """MobileFaceNet; its training data are not published."""

    name = "fr_feature"
    title = "faceplugin MobileFaceNet (512-D)"
    dim = 512
    licence = "MIT; the training data's own terms (unknown)"
    source = "npm faceplugin-face-recognition-js 0.0.1, model/fr_feature.onnx"
    referee_of = ("synthetic",)
    file = WeightFile(
        "fr_feature.onnx",
        "https://registry.npmjs.org/faceplugin-face-recognition-js/-/faceplugin-face-recognition-js-0.0.1.tgz",
        licence,
        "87aacdfe57510db2af90c0251df680e8eec88f122ee94712121d09bcaaaf3581",
        "fr_feature.onnx",
        41_114_878,
    )

    def load(self) -> OnnxFace:
        return OnnxFace(self.weights_path())
