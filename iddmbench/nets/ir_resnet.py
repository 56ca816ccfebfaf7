"""ResNets of ArcFace's line (Deng et al., arXiv 1801.07698): improved residual units, optionally with squeeze and excitation.

Tensors are named as in face.evoLVe's and InsightFace_Pytorch's files (`input_layer`, `body`, `output_layer`). insightface's own
files name the same layers otherwise: `from_insightface` renames them.
"""

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iddmbench.nets.prelu import FrozenPReLU

UNITS = {50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 152: (3, 8, 36, 3)}
"""Residual units of each stage, by the usual name of the depth. The stages have 64, 128, 256 and 512 channels."""
WIDTHS = (64, 128, 256, 512)


class _Excitation(nn.Module):
    """Squeeze and excitation (Hu et al., arXiv 1709.01507), 16 to 1: each channel times a factor in (0, 1)."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class _Unit(nn.Module):
    """One residual unit, [N, ins, H, W] -> [N, outs, H / stride, W / stride].

    Args:
        middle: a batch norm between the first convolution and its PReLU.
        project: the shortcut has a convolution wherever it changes size, not only where it changes width.
    """

    def __init__(self, ins: int, outs: int, stride: int, middle: bool, excite: bool, project: bool):
        super().__init__()
        self.shortcut_layer: nn.Module
        if ins != outs or (project and stride > 1):
            self.shortcut_layer = nn.Sequential(nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs))
        else:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(ins),
            nn.Conv2d(ins, outs, 3, 1, 1, bias=False),
            *([nn.BatchNorm2d(outs)] if middle else []),
            FrozenPReLU(outs),
            nn.Conv2d(outs, outs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outs),
            *([_Excitation(outs)] if excite else []),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class IRResNet(nn.Module):
    """Features [N, 512] of crops [N, 3, 112, 112] in [-1, 1].

    Args:
        units: residual units of each of the four stages. middle, project: see `_Unit`.
        excite: units with squeeze and excitation (IR-SE).
        affine: the last batch norm has a scale and a shift of its own. eps: of all batch norms.
    """

    def __init__(
        self,
        units: Sequence[int],
        middle: bool = False,
        excite: bool = False,
        project: bool = False,
        affine: bool = True,
        eps: float = 1e-5,
    ):
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), FrozenPReLU(64))
        body: list[_Unit] = []
        width = WIDTHS[0]
        for count, outs in zip(units, WIDTHS, strict=True):
            for i in range(count):
                body.append(_Unit(width, outs, 1 if i else 2, middle, excite, project))
                width = outs
        self.body = nn.Sequential(*body)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, 512),
            nn.BatchNorm1d(512, affine=affine),
        )
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.body(self.input_layer(x)))


TOP = {"conv1": "input_layer.0", "bn1": "input_layer.1", "prelu": "input_layer.2"}
TOP |= {"bn2": "output_layer.0", "fc": "output_layer.3", "features": "output_layer.4"}
WITHIN = {"bn1": "res_layer.0", "conv1": "res_layer.1", "bn2": "res_layer.2", "prelu": "res_layer.3"}
WITHIN |= {"conv2": "res_layer.4", "bn3": "res_layer.5", "downsample.0": "shortcut_layer.0"}
WITHIN |= {"downsample.1": "shortcut_layer.1"}
LAYER = re.compile(r"layer([1-4])\.(\d+)\.(downsample\.[01]|\w+)\.(\w+)")


def from_insightface(state: Mapping[str, Tensor], units: Sequence[int]) -> dict[str, Tensor]:
    """A state dict of insightface's `iresnet` under the names of `IRResNet(units, middle=True, project=True)`.

    Names that it doesn't know stay as they are.
    """
    starts = [sum(units[:i]) for i in range(4)]

    def renamed(key: str) -> str:
        if (found := LAYER.fullmatch(key)) and found[3] in WITHIN:
            return f"body.{starts[int(found[1]) - 1] + int(found[2])}.{WITHIN[found[3]]}.{found[4]}"
        name, _, rest = key.partition(".")
        return f"{TOP[name]}.{rest}" if name in TOP else key

    return {renamed(key): value for key, value in state.items()}
