"""What tells one embedded base from another: its training photos, words, recipe and card. The training is the same."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iddmbench.errors import UserError, did_you_mean
from iddmbench.micro.data import Spread


@dataclass(frozen=True)
class Original:
    """A training photo.

    Attributes:
        key: what its random views are drawn from: person, number.
        square: uint8 [L, L, 3], the square around the face.
        name: a made-up word for the person, or "".
        said: parts of its caption that can't be seen in a view.
    """

    key: tuple[int, int]
    square: np.ndarray
    name: str = ""
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Domain:
    """One embedded base.

    Attributes:
        name: as in `--base`.
        originals: the training photos, read from a folder where they are no installed package's.
        words: each becomes one token.
        shown: the caption parts that can be seen in a view, from its pixels and landmarks.
        wide, narrow: how much views differ, for the autoencoder and for the diffusion model.
        blended: share of the autoencoder's views that are mixtures of two.
        views: of each photo, for the diffusion model.
        average: decay of the averaged weights of the diffusion model.
        channels: of the latents, 8 x 8 positions each.
        perceptual: weight of the EfficientNet feature distance in the autoencoder's loss.
        batches: sizes of the autoencoder's and of the diffusion model's training batches.
        recipe: what is written to `iddmbench.json`.
        card: text of the model card, a format string (`card.write_card`).
    """

    name: str
    originals: Callable[[Path | None], list[Original]]
    words: tuple[str, ...]
    shown: Callable[[np.ndarray, np.ndarray], tuple[str, ...]]
    wide: Spread
    narrow: Spread
    blended: float
    views: int
    average: float
    channels: int
    perceptual: float
    batches: tuple[int, int]
    recipe: dict[str, Any]
    card: str


def get_domain(name: str) -> Domain:
    """Raises UserError when there is none of that name."""
    from iddmbench.micro.gray import GRAY
    from iddmbench.micro.rgb import RGB

    domains = {domain.name: domain for domain in (GRAY, RGB)}
    if name not in domains:
        raise UserError(f"no embedded base is called '{name}': {did_you_mean(name, domains)}")
    return domains[name]
