"""Feature taps: activations of a UNet's later layers, gathered while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor


@contextmanager
def last_block(unet: Any) -> Iterator[list[Tensor]]:
    """Outputs of the second convolution of every residual layer of the last up block, appended as the UNet runs.

    These are the layers whose interference SimAC uses (arXiv 2312.07865; in Stable Diffusion 9 to 11 of the up path).
    """
    gathered: list[Tensor] = []
    hooks = [
        resnet.conv2.register_forward_hook(lambda module, inputs, output: gathered.append(output))
        for resnet in unet.up_blocks[-1].resnets
    ]
    try:
        yield gathered
    finally:
        for hook in hooks:
            hook.remove()
