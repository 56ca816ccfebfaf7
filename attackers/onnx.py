"""Any ONNX file of ArcFace's convention: AdaFace, EdgeFace, MobileFaceNet, what you trained yourself."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from iddmbench.attacker import AttackerOptions, NetworkAttacker, NetworkOptions
from iddmbench.attackers.faceplugin import FrFeature
from iddmbench.errors import UserError, did_you_mean
from iddmbench.nets.onnx_face import OnnxFace
from iddmbench.paths import user_path
from iddmbench.wheel_files import sha256

ORDERS, RANGES = ("bgr",), ("raw", "scaled")


class OnnxOptions(NetworkOptions):
    path: str = Field("", description="the file")
    channels: Literal["rgb", "bgr"] = Field("rgb", description="order of the network's input channels")
    pixels: Literal["auto", "raw", "scaled"] = Field(
        "auto", description="range of its input pixels: 0..255 (raw) or -1..1 (scaled); auto inspects the file"
    )


class Onnx(NetworkAttacker):
    """`onnx:PATH`, with `,bgr` for networks that take B, G, R, `,raw` or `,scaled` if 0..255 or -1..1 is guessed wrongly."""

    name = "onnx"
    title = "an ONNX file with ArcFace's convention (onnx:PATH)"
    dim = 0  # of the file: an instance knows it
    licence = "the file's own"
    source = "the user's file"
    Options = OnnxOptions
    fingerprinted = frozenset({"path", "channels", "pixels", "detector"})

    def use(self, options: AttackerOptions) -> None:
        if path := getattr(options, "path", ""):
            self.title = f"ONNX file {Path(path).name}"  # type: ignore[misc]
        super().use(options)

    @property
    def path(self) -> Path | None:
        return user_path(self.options.path) if self.options.path else None

    @classmethod
    def read_argument(cls, argument: str) -> dict[str, Any]:
        path, *words = argument.split(",")
        options: dict[str, Any] = {"path": path}
        for word in words:
            if word not in ORDERS + RANGES:
                hint = did_you_mean(word, ORDERS + RANGES)
                raise UserError(f"onnx:{path} has no option '{word}': {hint}")
            options["channels" if word in ORDERS else "pixels"] = word
        return options

    @classmethod
    def write_argument(cls, options: Any) -> str:
        words = [w for w in (options.channels, options.pixels) if w in ORDERS + RANGES]
        return ",".join([options.path, *words])

    def __getattribute__(self, name: str) -> object:
        if name in ("dim", "differentiable") and object.__getattribute__(self, "options").path:
            return getattr(object.__getattribute__(self, "_network"), name)
        return object.__getattribute__(self, name)

    def load(self) -> OnnxFace:
        raw = {"raw": True, "scaled": False}.get(self.options.pixels)
        return OnnxFace(self.weights_path(), self.options.channels == "bgr", raw)

    def weights_path(self) -> Path:
        if self.path is None:
            raise UserError("name the file: onnx:PATH")
        if not self.path.is_file():
            raise UserError(f"onnx:{self.path}: no such file")
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
        words = [w for w in (self.options.channels, self.options.pixels) if w in ORDERS + RANGES]
        parts = [super().fingerprint(), sorted(words)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
