"""FaceNet: Inception-ResNet-v1 of facenet-pytorch (Schroff et al., arXiv 1503.03832; port by Tim Esler)."""

import numpy as np
import torch
from torch import Tensor

from iddmbench.attacker import NetworkAttacker
from iddmbench.errors import UserError
from iddmbench.faces.mtcnn import INSTALL, PACKAGE
from iddmbench.nets.face_net import FaceNet
from iddmbench.weights import WeightFile

RELEASE = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9"

MTCNN_160 = np.array([[43.7, 60.2], [116.3, 60.2], [80.0, 92.2], [49.1, 117.0], [110.9, 117.0]], np.float32)
"""[5, 2] in a 160 x 160 crop: where YuNet's landmarks lie on average in the boxes (no margin) that facenet-pytorch's MTCNN
finds on ORL's public people, made symmetric; its networks were trained on such boxes."""


class InceptionResnet(FaceNet):
    """facenet-pytorch's network as a `FaceNet`. Raises UserError when the file does not fit it."""

    size, template, dim = 160, MTCNN_160, 512

    def __init__(self, attacker: NetworkAttacker):
        super().__init__()
        from facenet_pytorch.models.inception_resnet_v1 import InceptionResnetV1

        path = attacker.weights_path()
        self.name, self.weights_sha256 = attacker.name, attacker.weights_hash()
        self.body = InceptionResnetV1(pretrained=None, classify=False)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            # The classifier of the training set's people is of no use here.
            self.body.load_state_dict({k: v for k, v in state.items() if not k.startswith("logits.")})
        except Exception as error:  # torch raises half a dozen kinds for damaged files
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{path} is not a state dict of FaceNet's Inception-ResNet-v1: {reason}") from error
        self.freeze()

    def features(self, crops: Tensor) -> Tensor:
        return self.body((crops * 255 - 127.5) / 128)


class _FaceNet(NetworkAttacker):
    dim = 512
    package = (PACKAGE, INSTALL)

    def load(self) -> InceptionResnet:
        return InceptionResnet(self)


class FaceNetVGGFace2(_FaceNet):
    """Inception-ResNet-v1 trained on VGGFace2."""

    name = "facenet-vggface2"
    title = "FaceNet Inception-ResNet-v1, VGGFace2 (512-D)"
    trained_on_datasets = ("vggface2",)
    licence = "MIT; VGGFace2's own terms"
    source = "facenet-pytorch v2.2.9, 20180402-114759-vggface2.pt"
    file = WeightFile(
        "20180402-114759-vggface2.pt",
        f"{RELEASE}/20180402-114759-vggface2.pt",
        licence,
        "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
        bytes=111_898_327,
    )


class FaceNetCasia(_FaceNet):
    """Inception-ResNet-v1 trained on CASIA-WebFace. No published checksum of its file is known: the first seen is pinned."""

    name = "facenet-casia"
    title = "FaceNet Inception-ResNet-v1, CASIA-WebFace (512-D)"
    trained_on_datasets = ("casia-webface",)
    licence = "MIT; CASIA-WebFace's own terms"
    source = "facenet-pytorch v2.2.9, 20180408-102900-casia-webface.pt"
    file = WeightFile("20180408-102900-casia-webface.pt", f"{RELEASE}/20180408-102900-casia-webface.pt", licence)
