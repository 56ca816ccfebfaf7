"""FaceRes: a MobileNet-v1 that knows faces, their age and their sex.

Savchenko, "Efficient facial representations for age, gender and identity recognition in organizing photo albums using
multi-output ConvNet", PeerJ Computer Science, 2019; repository HSE_FaceRec_tf. Trained for identification on VGGFace2, then
heads for age and sex on its frozen features; the project human (npm @vladmandic/human) publishes it for TensorFlow.js in 16-bit
floats. What the heads read is a guess about looks, not a person's age or gender.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iddmbench.errors import UserError, first_line
from iddmbench.nets.face_net import FaceNet
from iddmbench.nets.tfjs import Node, TfjsGraph, read_tfjs, weight_files
from iddmbench.wheel_files import sha256

SIZE = 224
MEAN_BGR = (103.939, 116.779, 123.68)
"""Subtracted from B, G, R in 0..255, as where it was trained (facial_analysis.py). The project human feeds R, G, B in 0..255
without it: on ORL's people 1-28 that gives an EER of 0.40 % instead of 0.23 %, and on 96 generated colour photos of 24 people
ages whose standard deviation within a person is 3.7 instead of 3.1 years (mean over all years)."""

BOX = np.array([[0.317, 0.378], [0.683, 0.378], [0.5, 0.579], [0.344, 0.736], [0.656, 0.736]], np.float32)
"""[5, 2] in units of a square around YuNet's face box: the mean places of its landmarks on ORL's public people, made
symmetric."""
MARGIN = 1.25
"""Side of the crop in units of that square. EER in % on ORL's people 1-28 by side: 1.67: 1.11, 1.43 and 1.33: 0.32, 1.25: 0.23,
1.18: 0.27, 1.11: 0.32, 1: 0.37; rank 1 is 100 % for all."""

BLOCKS = 13
AGES = 100


class Attributes(NamedTuple):
    """What FaceRes reads in N faces.

    Attributes:
        age: float [N], years, 1 to 100.
        female: float [N], probability in [0, 1].
    """

    age: Tensor
    female: Tensor


class FaceRes(FaceNet):
    """FaceRes as a torch module (`FaceNet`).

    Args:
        path: its JSON file (faceres.json); the weights lie beside it.

    Raises UserError when a file is absent, damaged, or of another network.
    """

    name, size, dim = "faceres", SIZE, 1024
    mean: Tensor
    template = (((BOX - 0.5) / MARGIN + 0.5) * SIZE - 0.5).astype(np.float32)

    def __init__(self, path: Path):
        super().__init__()
        graph = read_tfjs(path)
        hashes = [sha256(file) for file in (path, *weight_files(path))]
        self.weights_sha256 = hashlib.sha256("".join(hashes).encode()).hexdigest()
        try:
            layers = _layers(graph)
            self.trunk = nn.Sequential(*layers)
            self.shared, self.age, self.sex = (_linear(graph, name) for name in ("feats", "age_pred", "gender_pred"))
        except (KeyError, ValueError, RuntimeError) as error:
            reason = first_line(error)
            raise UserError(f"{path} is not FaceRes, or is another version of it: {reason}") from error
        width = layers[-1].conv.out_channels
        if (width, self.age.out_features, self.sex.out_features) != (self.dim, AGES, 1):
            found = f"{width} features, {self.age.out_features} ages"
            raise UserError(f"{path} is another version of FaceRes: {found} instead of {self.dim} and {AGES}")
        self.register_buffer("mean", torch.tensor(MEAN_BGR).view(1, 3, 1, 1))
        self.freeze()

    def features(self, crops: Tensor) -> Tensor:
        return self.trunk(crops.flip(1) * 255 - self.mean).mean((2, 3))

    def attributes(self, crops: Tensor) -> Attributes:
        """Age and sex of crops float [N, 3, 224, 224], RGB in [0, 1]; differentiable.

        The age is the mean of the two most probable years, weighted by their probabilities (HSE_FaceRec_tf; the mean over all
        years draws children and old people to the middle).

        Raises ValueError for crops of another shape.
        """
        self.check(crops)
        hidden = F.relu(self.shared(self.features(crops)))
        chance, index = self.age(hidden).softmax(1).topk(2, dim=1)
        age = (chance * (index + 1)).sum(1) / chance.sum(1)
        return Attributes(age, 1 - self.sex(hidden)[:, 0].sigmoid())

    def plain_attributes(self, pixels: Tensor) -> Attributes:
        """Age and sex as the project human reads them: no mean is subtracted, and the age is the mean over all years.

        The dataset `synthetic` was made with it; everything else uses `attributes`.

        Args:
            pixels: float [N, 3, 224, 224], RGB in 0..255.
        """
        hidden = F.relu(self.shared(self.trunk(pixels).mean((2, 3))))
        chance = self.age(hidden).softmax(1)
        years = torch.arange(AGES, dtype=chance.dtype) + 0.5
        return Attributes(chance @ years, 1 - self.sex(hidden)[:, 0].sigmoid())


class _Layer(nn.Module):
    """A convolution with TensorFlow's SAME padding, then ReLU6."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray, stride: int, groups: int = 1):
        super().__init__()
        after, before, self.kernel, _ = weight.shape
        self.stride = stride
        self.conv = nn.Conv2d(before * groups, after, self.kernel, stride, groups=groups)
        with torch.no_grad():
            self.conv.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
            assert self.conv.bias is not None
            self.conv.bias.copy_(torch.from_numpy(bias))

    def forward(self, x: Tensor) -> Tensor:
        # Even sides in, so that all of an odd pixel's padding stands at the end.
        total = max((-(-x.shape[-1] // self.stride) - 1) * self.stride + self.kernel - x.shape[-1], 0)
        first, last = total // 2, total - total // 2
        return self.conv(F.pad(x, (first, last, first, last)) if total else x).clamp(0, 6)


def _layers(graph: TfjsGraph) -> list[_Layer]:
    """The stem and 13 depthwise separable convolutions. Raises KeyError or ValueError where the graph has others."""
    weights = graph.weights
    convolutions = {node.inputs[1]: node for node in graph.nodes if node.op in ("Conv2D", "DepthwiseConv2dNative")}
    if len(convolutions) != 1 + 2 * BLOCKS:
        raise ValueError(f"{len(convolutions)} convolutions instead of {1 + 2 * BLOCKS}")

    def full(name: str) -> _Layer:
        kernel = f"{name}/convolution/merged_input"  # batch normalization's scale is in it already
        weight = weights[kernel].transpose(3, 2, 0, 1)
        return _Layer(weight, weights[f"{name}_bn/batchnorm_1/sub"], _stride(convolutions[kernel]))

    def depthwise(name: str) -> _Layer:
        kernel, norm = f"{name}/depthwise_kernel", f"{name}_bn/batchnorm_1"
        weight = weights[kernel].transpose(2, 3, 0, 1)  # [C, 1, 3, 3]
        scaled = weight * weights[f"{norm}/mul"].reshape(-1, 1, 1, 1)
        return _Layer(scaled, weights[f"{norm}/sub"], _stride(convolutions[kernel]), groups=len(weight))

    layers = [full("conv1")]
    for block in range(1, BLOCKS + 1):
        layers += [depthwise(f"conv_dw_{block}"), full(f"conv_pw_{block}")]
    return layers


def _stride(node: Node) -> int:
    strides = node.attributes.get("strides")
    kind = node.attributes.get("padding"), node.attributes.get("data_format")
    if kind != ("SAME", "NHWC") or strides not in ([1, 1, 1, 1], [1, 2, 2, 1]):
        raise ValueError(f"{node.name} has padding {kind[0]}, layout {kind[1]}, strides {strides}")
    return strides[1]


def _linear(graph: TfjsGraph, name: str) -> nn.Linear:
    kernel, bias = graph.weights[f"{name}/kernel"], graph.weights[f"{name}/bias"]
    layer = nn.Linear(*kernel.shape)
    layer.load_state_dict({"weight": torch.from_numpy(kernel.T.copy()), "bias": torch.from_numpy(bias)})
    return layer
