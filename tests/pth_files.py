"""Files of random numbers in exactly the formats of published recognition networks, and what such a network computes.

Names, shapes and the computation are written down from the projects' definitions, apart from the package's own networks: one
function goes through a network's layers and either asks for a tensor's shape or uses its numbers.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

STAGES = {50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 152: (3, 8, 36, 3)}
WIDTHS = (64, 128, 256, 512)
POOL = 700_001


class Numbers:
    """A state dict that makes up each tensor when it is first asked for. Tensors of one fan-in share a small storage, so that
    large files need not be written."""

    def __init__(self, seed: int = 0):
        self.normal = torch.randn(POOL, generator=torch.Generator().manual_seed(seed))
        self.pools: dict[int, Tensor] = {}
        self.state: dict[str, Tensor] = {}

    def tensor(self, name: str, *sides: int) -> Tensor:
        shape = torch.Size(sides)
        if name not in self.state:
            strides = [1] * len(shape)
            for i in range(len(shape) - 2, -1, -1):
                strides[i] = strides[i + 1] * shape[i + 1]
            strides[0] = 61 if len(shape) > 1 else 1  # rows overlap, so that large matrices need few numbers
            start = 7919 * len(self.state) % 150_000
            ins = shape[1:].numel() if len(shape) > 1 else 100
            pool = self.pools.setdefault(ins, self.normal / ins**0.5)
            self.state[name] = pool.as_strided(shape, strides, start)
        assert self.state[name].shape == shape, name
        return self.state[name]

    def conv(self, name: str, x: Tensor, outs: int, kernel: int | tuple[int, int], bias: bool = False, **how) -> Tensor:
        high, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
        weight = self.tensor(f"{name}.weight", outs, x.shape[1] // how.get("groups", 1), high, wide)
        return F.conv2d(x, weight, self.tensor(f"{name}.bias", outs) if bias else None, **how)

    def norm(self, name: str, x: Tensor, affine: bool = True, eps: float = 1e-5) -> Tensor:
        n = x.shape[1]
        scale = 1 + self.tensor(f"{name}.weight", n) if affine else torch.ones(n)
        if affine:
            self.state[f"{name}.weight"] = scale = self.state.get(f"{name}.scaled", scale)
            self.state[f"{name}.scaled"] = scale
        shift = self.tensor(f"{name}.bias", n) if affine else torch.zeros(n)
        mean = self.tensor(f"{name}.running_mean", n)
        var = self.state.setdefault(f"{name}.running_var", self.tensor(f"{name}.spread", n).abs() + 1)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(1)
        return F.batch_norm(x, mean, var, scale, shift, False, 0.0, eps)

    def prelu(self, name: str, x: Tensor) -> Tensor:
        return F.prelu(x, self.tensor(f"{name}.weight", x.shape[1]))

    def linear(self, name: str, x: Tensor, outs: int, bias: bool = True) -> Tensor:
        weight = self.tensor(f"{name}.weight", outs, x.shape[-1])
        return F.linear(x, weight, self.tensor(f"{name}.bias", outs) if bias else None)

    def file(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.state.items() if not name.endswith((".scaled", ".spread"))}


Network = Callable[[Numbers, Tensor], Tensor]
"""Features [N, 512] of crops in [-1, 1]."""


def ir(depth: int, excite: bool = False, middle: bool = False, affine: bool = True) -> Network:
    """face.evoLVe's, InsightFace_Pytorch's and AdaFace's `Backbone`."""

    def network(w: Numbers, x: Tensor) -> Tensor:
        x = w.prelu("input_layer.2", w.norm("input_layer.1", w.conv("input_layer.0", x, 64, 3, padding=1)))
        index = 0
        for count, outs in zip(STAGES[depth], WIDTHS, strict=True):
            for i in range(count):
                at, stride = f"body.{index}.", 1 if i else 2
                if x.shape[1] == outs:
                    short = x[:, :, ::stride, ::stride]
                else:
                    short = w.conv(f"{at}shortcut_layer.0", x, outs, 1, stride=stride)
                    short = w.norm(f"{at}shortcut_layer.1", short)
                at += "res_layer."
                y = w.conv(f"{at}1", w.norm(f"{at}0", x), outs, 3, padding=1)
                n = 2
                if middle:
                    y, n = w.norm(f"{at}2", y), 3
                y = w.conv(f"{at}{n + 1}", w.prelu(f"{at}{n}", y), outs, 3, padding=1, stride=stride)
                y = w.norm(f"{at}{n + 2}", y)
                if excite:
                    z = F.relu(w.conv(f"{at}{n + 3}.fc1", F.adaptive_avg_pool2d(y, 1), outs // 16, 1))
                    y = y * w.conv(f"{at}{n + 3}.fc2", z, outs, 1).sigmoid()
                x, index = y + short, index + 1
        x = w.linear("output_layer.3", w.norm("output_layer.0", x).flatten(1), 512)
        return w.norm("output_layer.4", x, affine)

    return network


def iresnet100(w: Numbers, x: Tensor, eps: float = 1e-5) -> Tensor:
    """insightface's, which is ElasticFace's."""

    def norm(name: str, x: Tensor) -> Tensor:
        return w.norm(name, x, eps=eps)

    x = w.prelu("prelu", norm("bn1", w.conv("conv1", x, 64, 3, padding=1)))
    for stage, (count, outs) in enumerate(zip(STAGES[100], WIDTHS, strict=True), start=1):
        for i in range(count):
            at, stride, short = f"layer{stage}.{i}.", 1 if i else 2, x
            if not i:
                short = norm(f"{at}downsample.1", w.conv(f"{at}downsample.0", x, outs, 1, stride=stride))
            y = norm(f"{at}bn2", w.conv(f"{at}conv1", norm(f"{at}bn1", x), outs, 3, padding=1))
            y = w.conv(f"{at}conv2", w.prelu(f"{at}prelu", y), outs, 3, padding=1, stride=stride)
            x = norm(f"{at}bn3", y) + short
    return norm("features", w.linear("fc", norm("bn2", x).flatten(1), 512))


def magface(w: Numbers, x: Tensor) -> Tensor:
    """MagFace's: the same with another constant in its batch norms; it takes crops in [0, 1]."""
    return iresnet100(w, (x + 1) / 2, 2e-5)


def mobilefacenet(w: Numbers, x: Tensor) -> Tensor:
    """InsightFace_Pytorch's."""

    def block(at: str, x: Tensor, outs: int, kernel: int, linear: bool = False, **how) -> Tensor:
        x = w.norm(f"{at}.bn", w.conv(f"{at}.conv", x, outs, kernel, **how))
        return x if linear else w.prelu(f"{at}.prelu", x)

    def wise(at: str, x: Tensor, outs: int, width: int, stride: int) -> Tensor:
        y = block(f"{at}.conv", x, width, 1)
        y = block(f"{at}.conv_dw", y, width, 3, padding=1, stride=stride, groups=width)
        return block(f"{at}.project", y, outs, 1, linear=True)

    def residual(at: str, x: Tensor, width: int, count: int) -> Tensor:
        for i in range(count):
            x = x + wise(f"{at}.model.{i}", x, x.shape[1], width, 1)
        return x

    x = block("conv1", x, 64, 3, stride=2, padding=1)
    x = block("conv2_dw", x, 64, 3, padding=1, groups=64)
    x = residual("conv_3", wise("conv_23", x, 64, 128, 2), 128, 4)
    x = residual("conv_4", wise("conv_34", x, 128, 256, 2), 256, 6)
    x = residual("conv_5", wise("conv_45", x, 128, 512, 2), 256, 2)
    x = block("conv_6_dw", block("conv_6_sep", x, 512, 1), 512, 7, linear=True, groups=512)
    return w.norm("bn", w.linear("linear", x.flatten(1), 512, bias=False))


def lvface(w: Numbers, x: Tensor) -> Tensor:
    """insightface's `vit_b`, which is LVFace-B."""
    dim, heads = 512, 8
    w.tensor("mask_token", 1, 1, dim)
    x = w.conv("patch_embed.proj", x, dim, 9, bias=True, stride=9).flatten(2).mT
    x = x + w.tensor("pos_embed", 1, 144, dim)

    def layer_norm(at: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (dim,), w.tensor(f"{at}.weight", dim), w.tensor(f"{at}.bias", dim))

    for i in range(24):
        at = f"blocks.{i}."
        qkv = w.linear(f"{at}attn.qkv", layer_norm(f"{at}norm1", x), 3 * dim, bias=False)
        q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, 2))
        weights = (q @ k.mT / (dim // heads) ** 0.5).softmax(-1)
        x = x + w.linear(f"{at}attn.proj", (weights @ v).transpose(1, 2).flatten(2), dim)
        y = F.relu6(w.linear(f"{at}mlp.fc1", layer_norm(f"{at}norm2", x), 4 * dim))
        x = x + w.linear(f"{at}mlp.fc2", y, dim)
    x = w.linear("feature.0", layer_norm("norm", x).flatten(1), dim, bias=False)
    x = w.linear("feature.2", w.norm("feature.1", x, eps=2e-5), 512, bias=False)
    return w.norm("feature.3", x, eps=2e-5)


def facenet(w: Numbers, x: Tensor) -> Tensor:
    """facenet-pytorch's `InceptionResnetV1(num_classes=8631)`, with the classifier that AMT-GAN's file holds."""

    def conv(at: str, x: Tensor, outs: int, kernel: int | tuple[int, int], stride: int = 1, padding=0) -> Tensor:
        x = w.conv(f"{at}.conv", x, outs, kernel, stride=stride, padding=padding)
        return F.relu(w.norm(f"{at}.bn", x, eps=1e-3))

    def chain(at: str, x: Tensor, *steps: tuple) -> Tensor:
        for i, step in enumerate(steps):
            x = conv(f"{at}.{i}", x, *step)
        return x

    def joined(at: str, x: Tensor, parts: list[Tensor], scale: float) -> Tensor:
        return x + scale * w.conv(f"{at}.conv2d", torch.cat(parts, 1), x.shape[1], 1, bias=True)

    x = conv("conv2d_2b", conv("conv2d_2a", conv("conv2d_1a", x, 32, 3, 2), 32, 3), 64, 3, padding=1)
    x = conv("conv2d_4a", conv("conv2d_3b", F.max_pool2d(x, 3, 2), 80, 1), 192, 3)
    x = conv("conv2d_4b", x, 256, 3, 2)
    for i in range(5):
        at, three = f"repeat_1.{i}", (32, 3, 1, 1)
        parts = [conv(f"{at}.branch0", x, 32, 1), chain(f"{at}.branch1", x, (32, 1), three)]
        parts.append(chain(f"{at}.branch2", x, (32, 1), three, three))
        x = F.relu(joined(at, x, parts, 0.17))
    one = conv("mixed_6a.branch0", x, 384, 3, 2)
    two = chain("mixed_6a.branch1", x, (192, 1), (192, 3, 1, 1), (256, 3, 2))
    x = torch.cat([one, two, F.max_pool2d(x, 3, 2)], 1)
    for i in range(10):
        at, crossed = f"repeat_2.{i}", ((128, 1), (128, (1, 7), 1, (0, 3)), (128, (7, 1), 1, (3, 0)))
        parts = [conv(f"{at}.branch0", x, 128, 1), chain(f"{at}.branch1", x, *crossed)]
        x = F.relu(joined(at, x, parts, 0.10))
    at = "mixed_7a.branch"
    parts = [chain(f"{at}0", x, (256, 1), (384, 3, 2)), chain(f"{at}1", x, (256, 1), (256, 3, 2))]
    parts.append(chain(f"{at}2", x, (256, 1), (256, 3, 1, 1), (256, 3, 2)))
    x = torch.cat([*parts, F.max_pool2d(x, 3, 2)], 1)
    for at in (*(f"repeat_3.{i}" for i in range(5)), "block8"):
        crossed = ((192, 1), (192, (1, 3), 1, (0, 1)), (192, (3, 1), 1, (1, 0)))
        parts = [conv(f"{at}.branch0", x, 192, 1), chain(f"{at}.branch1", x, *crossed)]
        x = joined(at, x, parts, 1.0) if at == "block8" else F.relu(joined(at, x, parts, 0.20))
    x = w.norm("last_bn", w.linear("last_linear", x.mean((2, 3)), 512, bias=False), eps=1e-3)
    w.tensor("logits.weight", 8631, 512)
    w.tensor("logits.bias", 8631)
    return x


FORMATS: dict[str, tuple[str, int, Network]] = {
    "ir152": ("ir152.pth", 112, ir(152)),
    "irse50": ("irse50.pth", 112, ir(50, excite=True)),
    "mobileface": ("mobile_face.pth", 112, mobilefacenet),
    "facenet": ("facenet.pth", 160, facenet),
    "adaface": ("adaface_ir101_webface12m.ckpt", 112, ir(100, middle=True, affine=False)),
    "elasticface": ("295672backbone.pth", 112, iresnet100),
    "qmagface": ("magface_epoch_00025.pth", 112, magface),
    "lvface": ("LVFace-B_Glint360K.pt", 112, lvface),
}
"""Attacker -> name of its file, side of its crops, its computation."""


def write(name: str, folder: Path, crops: Tensor | None = None) -> Tensor:
    """Make the file of that attacker; returns what the network computes of crops float [N, 3, side, side] in [-1, 1]."""
    file, side, network = FORMATS[name]
    numbers = Numbers()
    with torch.inference_mode(False), torch.no_grad():
        features = network(numbers, torch.zeros(1, 3, side, side) if crops is None else crops)
    state = numbers.file()
    if name == "adaface":
        state = {"state_dict": {f"model.{k}": v for k, v in state.items()} | {"head.kernel": torch.zeros(512, 9)}}
    if name == "qmagface":
        state = {"epoch": 25, "arch": "iresnet100", "state_dict": {f"features.module.{k}": v for k, v in state.items()}}
        state["state_dict"]["fc.weight"] = torch.zeros(512, 9)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / file)
    return features
