"""AdaFace (Kim, Jain and Liu, arXiv 2204.00964): IR-101 trained on WebFace12M, from its authors' checkpoint."""

from iddmbench.attacker import NetworkAttacker
from iddmbench.faces.align import ARCFACE_112
from iddmbench.nets.ir_resnet import UNITS, IRResNet
from iddmbench.nets.pth_face import PthFace
from iddmbench.weights import WeightFile


class AdaFace(NetworkAttacker):
    """IR-101 with a batch norm in the middle of each unit; it takes B, G, R. Its vectors' norms are not used."""

    name = "adaface"
    title = "AdaFace IR-101, WebFace12M (512-D)"
    trained_on_datasets = ("webface12m",)
    dim = 512
    licence = "MIT (AdaFace); WebFace260M's own terms"
    source = "mk-minchul/AdaFace, adaface_ir101_webface12m.ckpt"
    file = WeightFile("adaface_ir101_webface12m.ckpt", "https://github.com/mk-minchul/AdaFace", licence, by_hand=True)

    def load(self) -> PthFace:
        return PthFace(
            self.name,
            "AdaFace's IR-101",
            self.weights_path(),
            self.weights_hash(),
            112,
            ARCFACE_112,
            lambda state: IRResNet(UNITS[100], middle=True, affine=False),
            bgr=True,
            prefix="model.",  # the checkpoint holds the classifier of the training set too
        )
