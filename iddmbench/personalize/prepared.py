"""A base model that a defense prepared: other weights in place of its own, and a prefix before every prompt."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from iddmbench.models.base import BaseModel
from iddmbench.models.prefix import Prefix
from iddmbench.personalize.adapter import own_parameters
from iddmbench.personalize.sample import replaced

PREFIX = "prefix"
"""The prefix's name among the stored tensors; weights are named PART.NAME."""
PARTS = ("unet", "text_encoder", "vae")


@dataclass(frozen=True)
class PreparedBase:
    """What `Defense.prepare` makes of a base, at full strength.

    replaced: weights that stand in for the base's own, by part and name ("unet.conv_in.weight"); prefix: token vectors
    float [P, width] that stand before every prompt of which images are made, or None.
    """

    replaced: Mapping[str, Tensor] = field(default_factory=dict)
    prefix: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """For storing; `of` is the inverse."""
        found = {**self.replaced, **({} if self.prefix is None else {PREFIX: self.prefix})}
        return {name: tensor.detach().float().cpu().contiguous() for name, tensor in found.items()}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "PreparedBase":
        return cls({name: tensor for name, tensor in tensors.items() if name != PREFIX}, tensors.get(PREFIX))


@contextmanager
def prepared(base: BaseModel, preparation: PreparedBase, strength: float) -> Iterator[None]:
    """The base as a defense prepared it, in between; the very same tensors as before come back on exit.

    At a strength s below 1 weights are (1 - s) times the base's and s times the prepared ones; a prefix takes part with s
    (`iddmbench.models.prefix`). At 0 nothing changes.
    """
    if strength == 0:
        yield
        return
    weights, own = preparation.replaced, base_parameters(base, preparation.replaced)
    if strength < 1:
        weights = {name: torch.lerp(own[name].detach().cpu(), w.float(), strength) for name, w in weights.items()}
    with replaced(base, weights):
        before = base.prefix
        base.prefix = Prefix(preparation.prefix, strength) if preparation.prefix is not None else before
        try:
            yield
        finally:
            base.prefix = before


def base_parameters(base: BaseModel, names: Mapping[str, object]) -> dict[str, torch.nn.Parameter]:
    """Parameters, by part and name, of the base's parts that `names` mention; unknown parts are left out."""
    parts = {name.partition(".")[0] for name in names} & set(PARTS)
    return {f"{part}.{name}": w for part in parts for name, w in own_parameters(getattr(base, part)).items()}
