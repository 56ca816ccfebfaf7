"""ElasticFace (Boutros et al., arXiv 2109.09416): ResNet-100 trained on MS1MV2 with the loss ElasticFace-Arc."""

from iddmbench.attacker import NetworkAttacker
from iddmbench.faces.align import ARCFACE_112
from iddmbench.nets.ir_resnet import UNITS, IRResNet, from_insightface
from iddmbench.nets.pth_face import PthFace
from iddmbench.weights import WeightFile


class ElasticFace(NetworkAttacker):
    """insightface's iresnet100 by the authors of ElasticFace."""

    name = "elasticface"
    title = "ElasticFace-Arc ResNet-100, MS1MV2 (512-D)"
    trained_on_datasets = ("ms1m",)
    dim = 512
    licence = "CC BY-NC-SA 4.0 (ElasticFace); the training data's own terms"
    source = "fdbtrs/ElasticFace, ElasticFace-Arc: 295672backbone.pth"
    file = WeightFile("295672backbone.pth", "https://github.com/fdbtrs/ElasticFace", licence, by_hand=True)

    def load(self) -> PthFace:
        return PthFace(
            self.name,
            "ElasticFace's ResNet-100",
            self.weights_path(),
            self.weights_hash(),
            112,
            ARCFACE_112,
            lambda state: IRResNet(UNITS[100], middle=True, project=True),
            renamed=lambda state: from_insightface(state, UNITS[100]),
        )
