"""deepface's networks (Serengil and Ozpinar, 2020), as it builds them in PyTorch: differentiable, without TensorFlow.

deepface's modules make the networks; the weights are read here from the files that `iddmbench fetch` has checked, so that
deepface downloads nothing. Crops go in as its "base" normalization has them: B, G, R in [0, 1].
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from iddmbench.attacker import NetworkAttacker
from iddmbench.errors import UserError, first_line
from iddmbench.nets.face_net import FaceNet
from iddmbench.nets.onnx_face import OnnxFace
from iddmbench.weights import WeightFile

RELEASE = "https://github.com/serengil/deepface_models/releases/download/v1.0"
INSTALL = 'pip install "iddmbench[deepface]"'
MODULES = "deepface.models.facial_recognition.pytorch"

BOX = np.array([[0.317, 0.378], [0.683, 0.378], [0.5, 0.579], [0.344, 0.736], [0.656, 0.736]], np.float32)
"""[5, 2] in units of a square around YuNet's face box: where its landmarks lie on average on ORL's public people, made
symmetric. deepface's networks expect such crops, turned so that the eyes are level."""


class DeepFaceNet(FaceNet):
    """One deepface model as a `FaceNet`. Raises UserError when deepface lacks it, or the file does not fit it."""

    def __init__(self, attacker: "_DeepFace"):
        super().__init__()
        path = attacker.weights_path()
        self.name, self.dim, self.size = attacker.name, attacker.dim, attacker.side
        self.template, self.weights_sha256 = BOX * attacker.side - 0.5, attacker.weights_hash()
        try:
            self.body: nn.Module = attacker.build()
        except (ImportError, AttributeError, TypeError) as error:
            raise UserError(f"this deepface has no {attacker.model} in PyTorch ({error}): {INSTALL}") from error
        self._load(path, attacker.model)
        self.embed: Callable[[Tensor], Tensor] = getattr(self.body, "embed", self.body)  # VGG-Face classifies otherwise
        self.freeze()

    def _load(self, path: Path, model: str) -> None:
        try:
            self.body.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises half a dozen kinds for damaged files
            raise UserError(f"{path} is not a state dict of deepface's {model}: {first_line(error)}") from error

    def features(self, crops: Tensor) -> Tensor:
        return self.embed(crops.flip(1))


class _DeepFace(NetworkAttacker):
    """A model says what deepface calls it, where its network is, and its sizes; the rest follows from that and its file.

    Class arguments:
        file: name of the weights in deepface's release.
    """

    model: str
    """deepface's name of it."""
    maker: tuple[str, str]
    """Module below deepface's PyTorch folder, and what makes the network there."""
    side: int
    """Of its square input, in pixels."""
    # trained_on_datasets: as deepface's maintainer or the models' own authors say.
    package = ("deepface", INSTALL)
    licence = "MIT (deepface); the training data's own terms"

    def __init_subclass__(cls, file: str):
        super().__init_subclass__()
        cls.name, cls.title = f"deepface-{cls.model.lower()}", f"deepface: {cls.model} ({cls.dim}-D)"
        cls.source = f"deepface_models v1.0, {file}"
        cls.file = WeightFile(file, f"{RELEASE}/{file}", cls.licence)

    @classmethod
    def build(cls) -> nn.Module:
        """The network with random weights, by deepface."""
        module, name = cls.maker
        return getattr(import_module(f"{MODULES}.{module}"), name)()

    def load(self) -> DeepFaceNet:
        return DeepFaceNet(self)


class ArcFace(_DeepFace, file="arcface_weights.pth"):
    """ArcFace ResNet-34."""

    model, dim, side, maker = "ArcFace", 512, 112, ("ArcFace", "base_model")
    trained_on_datasets = ("casia-webface",)


class Facenet(_DeepFace, file="facenet_weights.pth"):
    """FaceNet, 128-D."""

    model, dim, side, maker = "Facenet", 128, 160, ("Facenet", "InceptionResNetV1")
    trained_on_datasets = ("ms1m",)


class Facenet512(_DeepFace, file="facenet512_weights.pth"):
    """FaceNet, 512-D."""

    model, dim, side, maker = "Facenet512", 512, 160, ("Facenet", "InceptionResNetV1")
    trained_on_datasets = ("vggface2",)

    @classmethod
    def build(cls) -> nn.Module:
        return import_module(f"{MODULES}.Facenet").InceptionResNetV1(dimension=512)


class VGGFace(_DeepFace, file="vgg_face_weights.pth"):
    """VGG-Face (Parkhi et al. 2015)."""

    model, dim, side, maker = "VGG-Face", 4096, 224, ("VGGFace", "base_model")
    trained_on_datasets = ("vggface",)


class GhostFaceNet(_DeepFace, file="ghostfacenet_v1.pth"):
    """GhostFaceNet V1."""

    model, dim, side, maker = "GhostFaceNet", 512, 112, ("GhostFaceNet", "base_model")
    trained_on_datasets = ("ms1m",)


class OpenFace(_DeepFace, file="openface_weights.pth"):
    """OpenFace nn4.small2."""

    model, dim, side, maker = "OpenFace", 128, 96, ("OpenFace", "OpenFaceNet")
    trained_on_datasets = ("casia-webface", "facescrub")


class SFaceNet(OnnxFace):
    """The float file of SFace on deepface's crops, R, G, B in 0..255 as deepface feeds it."""

    name, template = "deepface-sface", BOX * 112 - 0.5


class SFace(NetworkAttacker):
    """SFace as deepface uses it: OpenCV Zoo's float file. deepface itself has it in ONNX alone; here it runs in torch."""

    name = "deepface-sface"
    title = "deepface: SFace (128-D)"
    dim = 128
    licence = "Apache-2.0"
    source = "OpenCV Zoo, face_recognition_sface_2021dec.onnx"
    trained_on_datasets = ("casia-webface", "ms1m", "vggface2")  # as of `sface`
    same_as = "sface"
    file = WeightFile(
        "face_recognition_sface_2021dec.onnx",
        "https://github.com/opencv/opencv_zoo/raw/main/models/face_recognition_sface/face_recognition_sface_2021dec.onnx",
        licence,
        "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
    )

    def load(self) -> SFaceNet:
        return SFaceNet(self.weights_path(), raw=True)
