"""A personalized model that was trained elsewhere, and what there is to say of how it was read."""

from dataclasses import dataclass

from torch import Tensor

from iddmbench.errors import UserError
from iddmbench.personalize.trainer import PersonalizedModel

SHOWN = 3
"""Names that a message lists; the others are counted."""


@dataclass(frozen=True)
class ImportedModel:
    """What `read_adapter`, `read_dreambooth` and `read_embedding` give.

    Attributes:
        model: for `iddmbench.personalize.sample.generate`.
        source: what it was read from.
        layout: "diffusers", "peft", "Kohya", "DreamBooth folder" or "textual inversion".
        applied: tensors of the file that are in effect.
        ignored: names of those that are not, because the base has no such module.
        trigger: the words that call the person up, where the file says so.
        warnings: each a line for the user.
    """

    model: PersonalizedModel
    source: str
    layout: str
    applied: int
    ignored: tuple[str, ...] = ()
    trigger: str = ""
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        left = f", {len(self.ignored)} not" if self.ignored else ""
        return f"{self.source} ({self.layout}): {self.applied} tensors applied{left}"


def listed(names: tuple[str, ...] | list[str]) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def check_finite(tensors: dict[str, Tensor], source: str) -> None:
    """Raises UserError naming the tensors that hold NaN or infinity."""
    bad = [name for name, tensor in tensors.items() if not tensor.float().isfinite().all()]
    if bad:
        raise UserError(
            f"{source} holds NaN or infinity in {listed(bad)}: its training diverged; use an earlier checkpoint"
        )
