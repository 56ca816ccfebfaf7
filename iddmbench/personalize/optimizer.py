"""The optimizer of personalizers: AdamW, or the same with its moments in 8 bits."""

from collections.abc import Iterable
from importlib.util import find_spec

import torch
from torch import nn

from iddmbench.errors import UserError

WEIGHT_DECAY = 1e-2
EIGHT_BIT = "adamw-8bit"


def check_optimizer(name: str, device: torch.device) -> None:
    """Raises UserError for 8-bit AdamW where it can't run."""
    if name != EIGHT_BIT:
        return
    if device.type != "cuda":
        raise UserError(f"optimizer={name} needs a CUDA device, and the base is on {device.type}: use adamw")
    if find_spec("bitsandbytes") is None:
        raise UserError(f"optimizer={name} needs bitsandbytes: pip install bitsandbytes, or use adamw")


def adamw(name: str, weights: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """Of weights that all require gradients."""
    if name == EIGHT_BIT:
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(list(weights), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    return torch.optim.AdamW(weights, lr=learning_rate, weight_decay=WEIGHT_DECAY)
