"""MobileFaceNet (Chen et al., arXiv 1804.07573), with the names of tensors of InsightFace_Pytorch's files."""

from torch import Tensor, nn

from iddmbench.nets.prelu import FrozenPReLU


class _Conv(nn.Module):
    """Convolution without bias, batch norm, and a PReLU unless `linear`."""

    def __init__(self, ins: int, outs: int, kernel: int, stride: int, padding: int, groups: int, linear: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(ins, outs, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outs)
        if not linear:
            self.prelu = FrozenPReLU(outs)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x if self.linear else self.prelu(x)


class _Bottleneck(nn.Module):
    """Widen, convolve each channel, narrow again; with a shortcut if `residual`."""

    def __init__(self, ins: int, outs: int, width: int, stride: int, residual: bool = False):
        super().__init__()
        self.conv = _Conv(ins, width, 1, 1, 0, 1)
        self.conv_dw = _Conv(width, width, 3, stride, 1, width)
        self.project = _Conv(width, outs, 1, 1, 0, 1, linear=True)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.conv_dw(self.conv(x)))
        return x + out if self.residual else out


class _Residuals(nn.Module):
    """`count` bottlenecks with shortcuts, one after another."""

    def __init__(self, channels: int, width: int, count: int):
        super().__init__()
        self.model = nn.Sequential(*(_Bottleneck(channels, channels, width, 1, True) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class MobileFaceNet(nn.Module):
    """Features [N, dim] of crops [N, 3, 112, 112] in [-1, 1]."""

    def __init__(self, dim: int = 512):
        super().__init__()
        self.conv1 = _Conv(3, 64, 3, 2, 1, 1)
        self.conv2_dw = _Conv(64, 64, 3, 1, 1, 64)
        self.conv_23 = _Bottleneck(64, 64, 128, 2)
        self.conv_3 = _Residuals(64, 128, 4)
        self.conv_34 = _Bottleneck(64, 128, 256, 2)
        self.conv_4 = _Residuals(128, 256, 6)
        self.conv_45 = _Bottleneck(128, 128, 512, 2)
        self.conv_5 = _Residuals(128, 256, 2)
        self.conv_6_sep = _Conv(128, 512, 1, 1, 0, 1)
        self.conv_6_dw = _Conv(512, 512, 7, 1, 0, 512, linear=True)
        self.linear = nn.Linear(512, dim, bias=False)
        self.bn = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_23(self.conv2_dw(self.conv1(x)))
        x = self.conv_5(self.conv_45(self.conv_4(self.conv_34(self.conv_3(x)))))
        return self.bn(self.linear(self.conv_6_dw(self.conv_6_sep(x)).flatten(1)))
