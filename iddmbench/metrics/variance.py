"""Where the variance of a figure comes from: people, training seeds, images; and what width of interval that promises.

One value per image, y = mean + person + seed within person + image. Seeds are nested: the draws of a cell follow from the seed
and the person, so seed 1 of one person has nothing in common with seed 1 of another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from iddmbench.metrics.estimate import LEVEL, check_level


@dataclass(frozen=True)
class Split:
    """Variance components of one figure, in the square of its unit.

    Attributes:
        mean: over all images.
        people, seeds, images: of a person's true mean about that of all people, of a trained model's about its person's, of an
            image about its model's. Never below 0: an estimate below it is 0. NaN where the data can't tell them apart: `seeds`
            with one seed each (then part of `people`), `people` with one person, `images` with one image a model (part of
            `seeds`).
        counts: people, models (one per person and seed) and images behind it.
    """

    mean: float
    people: float
    seeds: float
    images: float
    counts: tuple[int, int, int]

    def error(self, people: int, seeds: int = 1, images: int = 1) -> float:
        """Standard error of the mean of a run with that many people, seeds for each and images for each model."""
        parts = (self.people / people, self.seeds / (people * seeds), self.images / (people * seeds * images))
        return math.sqrt(sum(0.0 if math.isnan(part) else part for part in parts))

    def half_width(self, people: int, seeds: int = 1, images: int = 1, level: float = LEVEL) -> float:
        """Half of the t interval that such a run can expect, over people. Raises ValueError below two people."""
        check_level(level)
        if people < 2:
            raise ValueError(f"{people} people have no interval over people: give at least 2")
        return float(t.ppf((1 + level) / 2, people - 1)) * self.error(people, seeds, images)


def variance_split(values: np.ndarray, people: Sequence[object], seeds: Sequence[object]) -> Split:
    """The components by the analysis of variance, for any number of seeds and images each: sums of squares of the nested design
    set equal to their expectations (Searle, Casella and McCulloch 1992, Variance Components, section 3.3 and appendix F.2).

    For a balanced design without an estimate below 0 this is restricted maximum likelihood (REML) too.

    Args:
        values: float or bool [N], one per image. people, seeds: of each image, [N].

    Raises ValueError for no images, NaN values and unequal lengths.
    """
    y = np.asarray(values, dtype=np.float64)
    if y.ndim != 1 or not len(y) or not len(y) == len(people) == len(seeds):
        raise ValueError(f"expected one value, person and seed per image, got {y.shape}, {len(people)}, {len(seeds)}")
    if np.isnan(y).any():
        raise ValueError(f"{int(np.isnan(y).sum())} values are NaN: leave out images without a value")
    person = _codes(people)
    model = _codes(list(zip(person.tolist(), map(str, seeds), strict=True)))
    of_model = np.zeros(model.max() + 1, dtype=int)
    of_model[model] = person
    n_model, n_person, n = np.bincount(model), np.bincount(person), len(y)
    models, count = len(n_model), len(n_person)
    mean_model, mean_person, mean = np.bincount(model, y) / n_model, np.bincount(person, y) / n_person, y.mean()
    within = float(((y - mean_model[model]) ** 2).sum())
    between_seeds = float((n_model * (mean_model - mean_person[of_model]) ** 2).sum())
    between_people = float((n_person * (mean_person - mean) ** 2).sum())
    squares = np.bincount(of_model, n_model.astype(float) ** 2) / n_person  # of each person, sum n_ij^2 / n_i
    # E(within) = (n - models) e; E(seeds) = (models - count) e + k1 s; E(people) = (count - 1) e + k2 s + k3 p
    k1, k2, k3 = n - squares.sum(), squares.sum() - (n_model**2).sum() / n, n - (n_person**2).sum() / n
    images = within / (n - models) if n > models else math.nan
    e = 0.0 if math.isnan(images) else images
    found = (between_seeds - (models - count) * e) / k1 if models > count else math.nan
    s = 0.0 if math.isnan(found) else found
    people_ = (between_people - (count - 1) * e - k2 * s) / k3 if count > 1 else math.nan
    parts = [value if math.isnan(value) else max(0.0, float(value)) for value in (people_, found, images)]
    return Split(float(mean), parts[0], parts[1], parts[2], (count, models, n))


def _codes(values: Sequence[object]) -> np.ndarray:
    """int [N], equal for equal values."""
    places: dict[object, int] = {}
    return np.array([places.setdefault(value, len(places)) for value in values])
