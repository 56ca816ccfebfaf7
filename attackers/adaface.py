"""AdaFace (Kim, Jain and Liu, arXiv 2204.00964): IR-101 trained on WebFace12M, from its authors' checkpoint."""

from collections.abc import Mapping

from torch import Tensor

from iddmbench.attackers.pth import PthAttacker
from iddmbench.nets.ir_resnet import UNITS, IRResNet
from iddmbench.weights import WeightFile


class AdaFace(PthAttacker):
    """IR-101 with a batch norm in the middle of each unit; it takes B, G, R. Its vectors' norms are not used."""

    name = "adaface"
    what = "AdaFace's IR-101"
    title = "AdaFace IR-101, WebFace12M (512-D)"
    trained_on_datasets = ("webface12m",)
    licence = "MIT (AdaFace); WebFace260M's own terms"
    source = "mk-minchul/AdaFace, adaface_ir101_webface12m.ckpt"
    file = WeightFile("adaface_ir101_webface12m.ckpt", "https://github.com/mk-minchul/AdaFace", licence, by_hand=True)

    bgr = True
    prefix = "model."  # the checkpoint holds the classifier of the training set too

    @staticmethod
    def body(state: Mapping[str, Tensor]) -> IRResNet:
        return IRResNet(UNITS[100], middle=True, affine=False)
