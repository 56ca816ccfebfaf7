"""ElasticFace (Boutros et al., arXiv 2109.09416): ResNet-100 trained on MS1MV2 with the loss ElasticFace-Arc."""

from collections.abc import Mapping

from torch import Tensor

from iddmbench.attackers.pth import PthAttacker
from iddmbench.nets.ir_resnet import UNITS, IRResNet, from_insightface
from iddmbench.weights import WeightFile


class ElasticFace(PthAttacker):
    """insightface's iresnet100 by the authors of ElasticFace."""

    name = "elasticface"
    what = "ElasticFace's ResNet-100"
    title = "ElasticFace-Arc ResNet-100, MS1MV2 (512-D)"
    trained_on_datasets = ("ms1m",)
    licence = "CC BY-NC-SA 4.0 (ElasticFace); the training data's own terms"
    source = "fdbtrs/ElasticFace, ElasticFace-Arc: 295672backbone.pth"
    file = WeightFile("295672backbone.pth", "https://github.com/fdbtrs/ElasticFace", licence, by_hand=True)

    @staticmethod
    def body(state: Mapping[str, Tensor]) -> IRResNet:
        return IRResNet(UNITS[100], middle=True, project=True)

    @staticmethod
    def renamed(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return from_insightface(state, UNITS[100])
