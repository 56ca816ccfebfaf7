"""The four networks that AMT-GAN (Hu et al., arXiv 2203.03121) and its successors judge by, from that project's `.pth` files.

The files began with Adv-Makeup (Yin et al., IJCAI 2021). IR-152 is face.evoLVe's, IR-SE-50 and MobileFaceNet are
InsightFace_Pytorch's, FaceNet is facenet-pytorch's Inception-ResNet-v1 with a classifier of 8,631 people, VGGFace2's.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from iddmbench.attacker import NetworkOptions
from iddmbench.attackers.facenet import MTCNN_160
from iddmbench.attackers.pth import PthAttacker
from iddmbench.faces.detect import Faces
from iddmbench.nets.inception_resnet import InceptionResNetV1
from iddmbench.nets.ir_resnet import UNITS, IRResNet
from iddmbench.nets.mobilefacenet import MobileFaceNet
from iddmbench.types import Embeddings, Image
from iddmbench.weights import WeightFile

PAGE = "https://github.com/CGCL-codes/AMT-GAN"
LICENCE = "not stated (AMT-GAN's and Adv-Makeup's assets); the training data's own terms"


class CropOptions(NetworkOptions):
    crop: Literal["aligned", "whole"] = Field(
        "aligned",
        description="five-point alignment, or the whole picture resized, without a detector (protocol amt-gan)",
    )


class _AmtGan(PthAttacker):
    """A network of that project. `crop=whole` computes what its scripts do: bilinear resizing of the whole picture."""

    licence = LICENCE
    Options = CropOptions

    def __init_subclass__(cls, file: str, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        cls.source = f"AMT-GAN's assets (its README), {file}"
        cls.file = WeightFile(file, PAGE, LICENCE, by_hand=True)

    def _embed(self, images: list[Image], faces: Faces | None) -> Embeddings:
        if self.options.crop == "aligned":
            return super()._embed(images, faces)
        network = self._network
        vectors = np.zeros((len(images), self.dim), np.float32)
        for start in range(0, len(images), self.batch):
            part = images[start : start + self.batch]
            with torch.inference_mode():
                crops = torch.cat([resized(image, self.side) for image in part])
                vectors[start : start + len(part)] = network(crops.to(self.device)).cpu().numpy()
        return Embeddings(vectors, np.ones(len(images), bool))


def resized(image: Image, side: int) -> Tensor:
    """float [1, 3, side, side] in [0, 1] of a uint8 [H, W, 3] picture: bilinear, not smoothed, as AMT-GAN's scripts do it."""
    pixels = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1)[None].float() / 255
    return F.interpolate(pixels, size=(side, side), mode="bilinear")


class IR152(_AmtGan, file="ir152.pth"):
    """IR-152 (face.evoLVe), trained on MS-Celeb-1M."""

    name = "ir152"
    title = "IR-152 of AMT-GAN's files (512-D)"
    what = "IR-152"
    trained_on_datasets = ("ms1m",)

    @staticmethod
    def body(state: Mapping[str, Tensor]) -> IRResNet:
        return IRResNet(UNITS[152], affine="output_layer.4.weight" in state)


class IRSE50(_AmtGan, file="irse50.pth"):
    """IR-SE-50 (InsightFace_Pytorch), trained on MS-Celeb-1M."""

    name = "irse50"
    title = "IR-SE-50 of AMT-GAN's files (512-D)"
    what = "IR-SE-50"
    trained_on_datasets = ("ms1m",)

    @staticmethod
    def body(state: Mapping[str, Tensor]) -> IRResNet:
        return IRResNet(UNITS[50], excite=True, affine="output_layer.4.weight" in state)


class MobileFace(_AmtGan, file="mobile_face.pth"):
    """MobileFaceNet (InsightFace_Pytorch), trained on MS-Celeb-1M."""

    name = "mobileface"
    title = "MobileFaceNet of AMT-GAN's files (512-D)"
    what = "MobileFaceNet"
    trained_on_datasets = ("ms1m",)

    @staticmethod
    def body(state: Mapping[str, Tensor]) -> MobileFaceNet:
        return MobileFaceNet()


class AmtGanFaceNet(_AmtGan, file="facenet.pth"):
    """FaceNet's Inception-ResNet-v1; its classifier tells that it was trained on VGGFace2, as facenet-pytorch's was."""

    name = "facenet"
    title = "FaceNet of AMT-GAN's files (512-D)"
    what = "FaceNet's Inception-ResNet-v1"
    side, template = 160, MTCNN_160
    trained_on_datasets = ("vggface2",)
    same_as = "facenet-vggface2"

    @staticmethod
    def body(state: Mapping[str, Tensor]) -> InceptionResNetV1:
        return InceptionResNetV1()

    @staticmethod
    def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Without the classifier of the training set's people, which is of no use here."""
        return {key: value for key, value in state.items() if not key.startswith("logits.")}
