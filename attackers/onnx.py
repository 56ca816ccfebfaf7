"""Any ONNX file of ArcFace's convention: AdaFace, EdgeFace, MobileFaceNet, what you trained yourself."""

import hashlib
import json
from pathlib import Path

from iddmbench.attacker import NetworkAttacker
from iddmbench.attackers.faceplugin import FrFeature
from iddmbench.errors import UserError, did_you_mean
from iddmbench.faces.detect import Detector
from iddmbench.nets.onnx_face import OnnxFace
from iddmbench.paths import user_path
from iddmbench.wheel_files import sha256

OPTIONS = ("bgr", "raw", "scaled")


class Onnx(NetworkAttacker):
    """`onnx:PATH`, with `,bgr` for networks that take B, G, R, `,raw` or `,scaled` where 0..255 or -1..1 is guessed wrongly."""

    name = "onnx"
    title = "an ONNX file of ArcFace's convention (onnx:PATH)"
    dim = 0  # of the file: an instance knows it
    licence = "the file's own"
    source = "the user's file"

    def __init__(self, path: Path | str | None = None, *options: str, detector: Detector | None = None):
        super().__init__(detector)
        for option in options:
            if option not in OPTIONS:
                raise UserError(f"onnx:{path} has no option '{option}': {did_you_mean(option, OPTIONS)}")
        self.path = user_path(path) if path else None
        self.options = options
        if self.path is not None:
            self.title = f"ONNX file {self.path.name}"  # type: ignore[misc]

    @classmethod
    def of(cls, argument: str) -> "Onnx":
        path, *options = argument.split(",")
        return cls(path, *options)

    def __getattribute__(self, name: str) -> object:
        if name in ("dim", "differentiable") and object.__getattribute__(self, "path") is not None:
            return getattr(object.__getattribute__(self, "_network"), name)
        return object.__getattribute__(self, name)

    def load(self) -> OnnxFace:
        raw = True if "raw" in self.options else False if "scaled" in self.options else None
        return OnnxFace(self.weights_path(), "bgr" in self.options, raw)

    def weights_path(self) -> Path:
        if self.path is None:
            raise UserError("name the file: onnx:PATH")
        if not self.path.is_file():
            raise UserError(f"onnx:{self.path}: there is no such file")
        return self.path

    def available(self) -> str | None:
        try:
            _ = self._network, self.detector  # a file can only be judged by reading it
        except UserError as error:
            return str(error)
        return None

    def refusal(self, dataset: str) -> str | None:
        """A referee stays one when it is named by its path."""
        assert FrFeature.file is not None
        same = sha256(self.weights_path()) == FrFeature.file.sha256
        return FrFeature().refusal(dataset) if same else None

    def fingerprint(self) -> str:
        parts = [super().fingerprint(), sorted(self.options)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
