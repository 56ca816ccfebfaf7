"""A prompt prefix: learned token vectors that stand before every prompt of which images are made."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from iddmbench.models.base import BaseModel


@dataclass(frozen=True, eq=False)
class Prefix:
    """vectors: float [P, width], in the space of the text encoder's token embeddings; strength: in [0, 1]."""

    vectors: Tensor
    strength: float = 1.0


def embed_prompts(base: "BaseModel", prompts: list[str]) -> Tensor:
    """`base.embed_text` of prompts that images are made of: behind the base's prefix, where it has one.

    At a strength s below 1 it is (1 - s) times the plain embedding and s times that behind the prefix.
    """
    plain, prefix = base.embed_text(prompts), base.prefix
    if prefix is None or prefix.strength == 0:
        return plain
    with torch.no_grad():
        prefixed = embed_behind(base, prompts, prefix.vectors.to(base.device))
    return prefixed if prefix.strength == 1 else torch.lerp(plain, prefixed, prefix.strength)


def embed_behind(base: "BaseModel", prompts: list[str], vectors: Tensor) -> Tensor:
    """Text embeddings float [len(prompts), tokens, width] of prompts behind `vectors` [P, width], differentiable in these.

    The vectors follow the start token. What no longer fits at the end is cut off, as of any long prompt.
    """

    def inserted(module: Any, inputs: Any, embedded: Tensor) -> Tensor:
        between = vectors.expand(len(embedded), -1, -1)
        return torch.cat((embedded[:, :1], between, embedded[:, 1:]), 1)[:, : embedded.shape[1]]

    encoder: Any = base.text_encoder
    hook = encoder.get_input_embeddings().register_forward_hook(inserted)
    try:
        with base.autocast():
            return encoder(base.tokens(prompts)).last_hidden_state.float()
    finally:
        hook.remove()
