"""deepface's networks, through deepface's own API (Serengil and Ozpinar, 2020), on its ONNX back end: no TensorFlow.

deepface gets aligned crops (`detector_backend="skip"`) and scales and normalizes them as it does by default ("base"). It
never downloads anything itself: it is shown the files that `iddmbench fetch` has checked.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from iddmbench.attacker import NetworkAttacker
from iddmbench.environ import variables
from iddmbench.errors import UserError
from iddmbench.nets.face_net import FaceNet
from iddmbench.weights import WeightFile

RELEASE = "https://github.com/serengil/deepface_models/releases/download/v1.0"
INSTALL = 'pip install "iddmbench[deepface]"'

BOX = np.array([[0.317, 0.378], [0.683, 0.378], [0.5, 0.579], [0.344, 0.736], [0.656, 0.736]], np.float32)
"""[5, 2] in units of a square around YuNet's face box: where its landmarks lie on average on ORL's public people, made
symmetric. deepface's networks expect such crops, turned so that the eyes are level."""


class DeepFaceNet(FaceNet):
    """One deepface model. Not differentiable: it runs in onnxruntime behind deepface's `represent`."""

    def __init__(self, attacker: "_DeepFace"):
        super().__init__()
        self.name, self.dim, self.size = attacker.name, attacker.dim, attacker.side
        self.model, self.template = attacker.model, BOX * attacker.side - 0.5
        assert attacker.file is not None
        path = attacker.file.require()
        self.weights_sha256 = attacker.weights_hash()
        try:
            with _home_with(path):
                _build(self.model, str(path), self.weights_sha256)
        except Exception as error:  # deepface wraps what onnxruntime raises in several kinds
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"deepface can't load {self.model} from {path}: {reason}") from error
        self.freeze()

    def features(self, crops: Tensor) -> Tensor:
        from deepface import DeepFace

        pixels = (crops.clamp(0, 1) * 255).round().to(torch.uint8).flip(1).permute(0, 2, 3, 1).cpu().numpy()
        found = DeepFace.represent(
            list(pixels), model_name=self.model, detector_backend="skip", enforce_detection=False, align=False
        )
        rows = [found] if len(pixels) == 1 else found
        vectors = torch.tensor(np.array([row[0]["embedding"] for row in rows], np.float32), device=crops.device)
        if vectors.shape != (len(crops), self.dim):
            raise UserError(f"deepface's {self.model} gives {tuple(vectors.shape)}, expected {(len(crops), self.dim)}")
        return vectors


@cache
def _build(model: str, path: str, checksum: str) -> None:
    """Let deepface load a model and keep it, as it does by name; anew when the file is another one."""
    from deepface.modules import modeling

    getattr(modeling, "cached_models", {}).get("facial_recognition", {}).pop(model, None)
    modeling.build_model(task="facial_recognition", model_name=model)


@contextmanager
def _home_with(path: Path) -> Iterator[None]:
    """deepface looks for a file below DEEPFACE_HOME and downloads it otherwise: show it a folder that has the file."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, ".deepface", "weights")
        folder.mkdir(parents=True)
        (folder / path.name).symlink_to(path.resolve())
        with variables({"DEEPFACE_HOME": home, "DEEPFACE_BACKEND_ENGINE": "onnx"}):
            yield


class _DeepFace(NetworkAttacker):
    """A model says what deepface calls it, and its sizes; the rest follows from that and its file.

    Class arguments:
        file: name of the weights, below `url`.
        source: who publishes it.
        sha256: of the file, where somebody publishes it.
    """

    model: str
    """deepface's name of it."""
    side: int
    """Of its square input, in pixels."""
    # trained_on_datasets: as deepface's maintainer or the models' own authors say.
    differentiable = False
    package = ("deepface", INSTALL)
    licence = "MIT (deepface); the training data's own terms"

    def __init_subclass__(
        cls, file: str, url: str = RELEASE, source: str = "deepface_models v1.0", sha256: str | None = None
    ):
        super().__init_subclass__()
        cls.name, cls.title = f"deepface-{cls.model.lower()}", f"deepface: {cls.model} ({cls.dim}-D)"
        cls.source = f"{source}, {file}"
        cls.file = WeightFile(file, f"{url}/{file}", cls.licence, sha256)

    def load(self) -> DeepFaceNet:
        return DeepFaceNet(self)


class ArcFace(_DeepFace, file="arcface_weights.onnx"):
    """ArcFace ResNet-34."""

    model, dim, side = "ArcFace", 512, 112
    trained_on_datasets = ("casia-webface",)


class Facenet(_DeepFace, file="facenet_weights.onnx"):
    """FaceNet, 128-D."""

    model, dim, side = "Facenet", 128, 160
    trained_on_datasets = ("ms1m",)


class Facenet512(_DeepFace, file="facenet512_weights.onnx"):
    """FaceNet, 512-D."""

    model, dim, side = "Facenet512", 512, 160
    trained_on_datasets = ("vggface2",)


class VGGFace(_DeepFace, file="vgg_face_weights.onnx"):
    """VGG-Face (Parkhi et al. 2015)."""

    model, dim, side = "VGG-Face", 4096, 224
    trained_on_datasets = ("vggface",)


class GhostFaceNet(_DeepFace, file="ghostfacenet_v1.onnx"):
    """GhostFaceNet V1."""

    model, dim, side = "GhostFaceNet", 512, 112
    trained_on_datasets = ("ms1m",)


class SFace(
    _DeepFace,
    file="face_recognition_sface_2021dec.onnx",
    url="https://github.com/opencv/opencv_zoo/raw/main/models/face_recognition_sface",
    source="OpenCV Zoo",
    sha256="0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
):
    """SFace, OpenCV Zoo's float file."""

    model, dim, side = "SFace", 128, 112
    trained_on_datasets = ("casia-webface", "ms1m", "vggface2")
    licence = "Apache-2.0"


class OpenFace(_DeepFace, file="openface_weights.onnx"):
    """OpenFace nn4.small2."""

    model, dim, side = "OpenFace", 128, 96
    trained_on_datasets = ("casia-webface", "facescrub")
