"""Taps: features and attention of a UNet, gathered while it runs."""

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


@contextmanager
def cross_attention(unet: Any, side: int) -> Iterator[list[Tensor]]:
    """Cross-attention of the down and up blocks, appended as the UNet runs: float [N, heads, side * side, tokens] of each layer
    whose maps are `side` x `side`.

    The attention itself is left alone; the maps are computed beside it.
    """
    gathered: list[Tensor] = []

    def heads(attention: Any, x: Tensor) -> Tensor:
        return x.unflatten(2, (attention.heads, -1)).transpose(1, 2)

    def compute(attention: Any, inputs: tuple[Tensor, ...], named: dict[str, Any], output: Tensor) -> None:
        places, text = inputs[0], named["encoder_hidden_states"]
        if places.shape[1] == side * side:
            q, k = heads(attention, attention.to_q(places)), heads(attention, attention.to_k(text))
            gathered.append((q @ k.transpose(2, 3) * attention.scale).softmax(3))

    hooks = [
        module.register_forward_hook(compute, with_kwargs=True)
        for name, module in unet.named_modules()
        if name.endswith("attn2") and name.startswith(("down_blocks", "up_blocks"))
    ]
    try:
        yield gathered
    finally:
        for hook in hooks:
            hook.remove()
