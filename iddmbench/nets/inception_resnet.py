"""Inception-ResNet-v1 (Szegedy et al., arXiv 1602.07261) as FaceNet uses it; its tensors have facenet-pytorch's names."""

import torch
from torch import Tensor, nn

SCALES = (0.17, 0.10, 0.20)
"""Of the residual branch in the three kinds of units."""


class _Conv(nn.Module):
    """Convolution without bias, batch norm (eps 1e-3, as TensorFlow has it), ReLU."""

    def __init__(
        self, ins: int, outs: int, kernel: int | tuple[int, int], stride: int = 1, padding: int | tuple[int, int] = 0
    ):
        super().__init__()
        self.conv = nn.Conv2d(ins, outs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class _Unit(nn.Module):
    """x + scale * (convolution of the joined branches), then ReLU unless `last`."""

    def __init__(self, branches: list[nn.Module], joined: int, channels: int, scale: float, last: bool = False):
        super().__init__()
        for i, branch in enumerate(branches):
            self.add_module(f"branch{i}", branch)
        self.conv2d = nn.Conv2d(joined, channels, 1)
        self.count, self.scale, self.last = len(branches), scale, last

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.get_submodule(f"branch{i}")(x) for i in range(self.count)]
        out = x + self.scale * self.conv2d(torch.cat(parts, 1))
        return out if self.last else torch.relu(out)


class _Reduction(nn.Module):
    """Branches of stride 2 next to a maximum over 3 x 3, all joined."""

    def __init__(self, branches: list[nn.Module]):
        super().__init__()
        for i, branch in enumerate([*branches, nn.MaxPool2d(3, 2)]):
            self.add_module(f"branch{i}", branch)
        self.count = len(branches) + 1

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.get_submodule(f"branch{i}")(x) for i in range(self.count)], 1)


def _unit_a() -> _Unit:
    two = nn.Sequential(_Conv(256, 32, 1), _Conv(32, 32, 3, padding=1))
    three = nn.Sequential(_Conv(256, 32, 1), _Conv(32, 32, 3, padding=1), _Conv(32, 32, 3, padding=1))
    return _Unit([_Conv(256, 32, 1), two, three], 96, 256, SCALES[0])


def _unit_b() -> _Unit:
    crossed = nn.Sequential(
        _Conv(896, 128, 1), _Conv(128, 128, (1, 7), padding=(0, 3)), _Conv(128, 128, (7, 1), padding=(3, 0))
    )
    return _Unit([_Conv(896, 128, 1), crossed], 256, 896, SCALES[1])


def _unit_c(scale: float = SCALES[2], last: bool = False) -> _Unit:
    crossed = nn.Sequential(
        _Conv(1792, 192, 1), _Conv(192, 192, (1, 3), padding=(0, 1)), _Conv(192, 192, (3, 1), padding=(1, 0))
    )
    return _Unit([_Conv(1792, 192, 1), crossed], 384, 1792, scale, last)


class InceptionResNetV1(nn.Module):
    """Features [N, 512] of crops [N, 3, 160, 160] in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_1a = _Conv(3, 32, 3, 2)
        self.conv2d_2a = _Conv(32, 32, 3)
        self.conv2d_2b = _Conv(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = _Conv(64, 80, 1)
        self.conv2d_4a = _Conv(80, 192, 3)
        self.conv2d_4b = _Conv(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(_unit_a() for _ in range(5)))
        self.mixed_6a = _Reduction(
            [
                _Conv(256, 384, 3, 2),
                nn.Sequential(_Conv(256, 192, 1), _Conv(192, 192, 3, padding=1), _Conv(192, 256, 3, 2)),
            ]
        )
        self.repeat_2 = nn.Sequential(*(_unit_b() for _ in range(10)))
        self.mixed_7a = _Reduction(
            [
                nn.Sequential(_Conv(896, 256, 1), _Conv(256, 384, 3, 2)),
                nn.Sequential(_Conv(896, 256, 1), _Conv(256, 256, 3, 2)),
                nn.Sequential(_Conv(896, 256, 1), _Conv(256, 256, 3, padding=1), _Conv(256, 256, 3, 2)),
            ]
        )
        self.repeat_3 = nn.Sequential(*(_unit_c() for _ in range(5)))
        self.block8 = _unit_c(1.0, last=True)
        self.last_linear = nn.Linear(1792, 512, bias=False)
        self.last_bn = nn.BatchNorm1d(512, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool_3a(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x))))
        x = self.repeat_1(self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(x))))
        x = self.repeat_2(self.mixed_6a(x))
        x = self.block8(self.repeat_3(self.mixed_7a(x)))
        return self.last_bn(self.last_linear(x.mean((2, 3))))
