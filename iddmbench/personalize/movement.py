"""How far a personalized model's images are from the base's own: whether an adapter that loads does anything."""

from collections.abc import Sequence

import numpy as np

from iddmbench.models.base import BaseModel
from iddmbench.models.recipe import Sampling
from iddmbench.personalize.sample import generate
from iddmbench.personalize.trainer import PersonalizedModel
from iddmbench.seeds import Seeds

NOTHING = 0.1
"""Mean gray levels below which images count as equal: sums in another order move them by less."""


def moved(
    base: BaseModel,
    model: PersonalizedModel,
    prompts: Sequence[str],
    sampling: Sampling | None = None,
    seeds: Seeds | None = None,
) -> float:
    """Mean absolute difference in gray levels (0-255) between images of the model and of the base itself.

    Each prompt gives one image of each, from the same noise.

    Args:
        sampling: by default the base's recipe.
        seeds: of the noise; by default Seeds(0).
    """
    sampling, seeds = sampling or base.recipe.sampling, seeds or Seeds(0)
    plain = PersonalizedModel(None, model.settings)
    one, other = (generate(base, m, list(prompts), 1, sampling, seeds) for m in (model, plain))
    return float(np.abs(one.astype(int) - other).mean())


def movement_note(levels: float) -> str:
    """One line on a figure of `moved`."""
    if levels < NOTHING:
        return f"it loads but does nothing: images differ from the base's own by {levels:.2f} gray levels"
    return f"images differ from the base's own by {levels:.1f} gray levels on average"
