"""faceres: age and sex of a face, from the npm package @vladmandic/human 3.3.6 (MIT; A. Savchenko, HSE_FaceRec_tf)."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iddmbench.errors import UserError

HALVING = (2, 4, 6, 12)
"""Blocks of MobileNet-v1 with stride 2."""


class FaceRes(nn.Module):
    """MobileNet-v1 at 224 x 224 with heads for age and sex.

    Args:
        layout: model.json of the TensorFlow.js model; weights: its binary file, half floats.

    Raises UserError when the two do not fit together.
    """

    def __init__(self, layout: Path, weights: Path):
        super().__init__()
        table = json.loads(layout.read_text(encoding="utf-8"))["weightsManifest"][0]["weights"]
        data, offset = weights.read_bytes(), 0
        self.arrays: dict[str, Tensor] = {}
        for entry in table:
            count = int(np.prod(entry["shape"], dtype=np.int64))
            kind = "<f2" if "quantization" in entry else "<i4"
            if offset + count * np.dtype(kind).itemsize > len(data):
                raise UserError(f"{weights} is too short for {layout}: they are of different versions")
            array = np.frombuffer(data, kind, count, offset).reshape(entry["shape"])
            offset += array.nbytes
            self.arrays[entry["name"]] = torch.from_numpy(array.astype(np.float32))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Expected age in years [N] and the probability of a man [N]; x: float32 [N, 3, 224, 224], 0 to 255, RGB."""
        w = self.arrays
        x = _convolve(x, w["conv1/convolution/merged_input"].permute(3, 2, 0, 1), 2)
        x = _shifted(x, w["conv1_bn/batchnorm_1/sub"]).clamp(0, 6)
        for k in range(1, 14):
            kernel = w[f"conv_dw_{k}/depthwise_kernel"].permute(2, 3, 0, 1)
            x = _convolve(x, kernel, 2 if k in HALVING else 1, len(kernel))
            x = x * w[f"conv_dw_{k}_bn/batchnorm_1/mul"][:, None, None]
            x = _shifted(x, w[f"conv_dw_{k}_bn/batchnorm_1/sub"]).clamp(0, 6)
            x = _convolve(x, w[f"conv_pw_{k}/convolution/merged_input"].permute(3, 2, 0, 1), 1)
            x = _shifted(x, w[f"conv_pw_{k}_bn/batchnorm_1/sub"]).clamp(0, 6)
        features = (x.mean((2, 3)) @ w["feats/kernel"] + w["feats/bias"]).relu()
        ages = (features @ w["age_pred/kernel"] + w["age_pred/bias"]).softmax(1)
        male = (features @ w["gender_pred/kernel"] + w["gender_pred/bias"]).sigmoid()[:, 0]
        years = torch.arange(ages.shape[1], dtype=ages.dtype) + 0.5
        return ages @ years, male


def _shifted(x: Tensor, bias: Tensor) -> Tensor:
    return x + bias[:, None, None]


def _convolve(x: Tensor, kernel: Tensor, stride: int, groups: int = 1) -> Tensor:
    """TensorFlow's "SAME" padding: what is odd goes to the right and below."""
    size, side = kernel.shape[-1], x.shape[-1]
    pad = max((-(-side // stride) - 1) * stride + size - side, 0)
    return F.conv2d(F.pad(x, (pad // 2, pad - pad // 2) * 2), kernel, stride=stride, groups=groups)
