"""Variance components against REML, against their own expectations, and what width they promise."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from iddmbench.metrics.paired import paired_difference
from iddmbench.metrics.variance import Split, variance_split

PEOPLE, SEEDS, IMAGES = 6, 3, 4


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def labels(sizes: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Person and seed of each image; sizes: images by person and seed."""
    person = [i for i, seeds in enumerate(sizes) for n in seeds for _ in range(n)]
    seed = [j for seeds in sizes for j, n in enumerate(seeds) for _ in range(n)]
    return np.array(person), np.array(seed)


def drawn(
    person: np.ndarray, seed: np.ndarray, sd: tuple[float, float, float], source: np.random.Generator
) -> np.ndarray:
    p, s = source.normal(0, sd[0], person.max() + 1), source.normal(0, sd[1], (person.max() + 1, seed.max() + 1))
    return 0.5 + p[person] + s[person, seed] + source.normal(0, sd[2], len(person))


def reml(y: np.ndarray, person: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The same model by restricted maximum likelihood over its whole covariance matrix; shares no line with the product."""
    model = person * 1000 + seed
    blocks = [(a[:, None] == a[None]).astype(float) for a in (person, model, np.arange(len(y)))]
    ones = np.ones((len(y), 1))

    def loss(logs: np.ndarray) -> float:
        v = sum(math.exp(x) * block for x, block in zip(logs, blocks, strict=True))
        inverse = np.linalg.inv(v)
        information = ones.T @ inverse @ ones
        rest = y - (np.linalg.solve(information, ones.T @ inverse @ y)).item()
        return float(np.linalg.slogdet(v)[1] + math.log(information.item()) + rest @ inverse @ rest)

    options = {"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000}
    return np.exp(minimize(loss, np.log([0.1, 0.1, 0.1]), method="Nelder-Mead", options=options).x)


def test_a_balanced_design_gives_reml() -> None:
    person, seed = labels([[IMAGES] * SEEDS] * PEOPLE)
    y = drawn(person, seed, (0.4, 0.3, 0.2), rng(3))
    found = variance_split(y, person, seed)
    assert (found.people, found.seeds, found.images) == pytest.approx(reml(y, person, seed), rel=1e-3)
    assert found.counts == (PEOPLE, PEOPLE * SEEDS, len(y)) and found.mean == pytest.approx(y.mean())


def test_a_balanced_design_by_hand() -> None:
    """Two people, two seeds, two images: mean squares 0.02, 0.01 and 0.005 worked out on paper."""
    y = [0.1, 0.2, 0.2, 0.3, 0.2, 0.3, 0.3, 0.4]  # person means .2 and .3, seeds .05 apart from them, images .05
    found = variance_split(np.array(y), [1] * 4 + [2] * 4, [0, 0, 1, 1] * 2)
    assert found.images == pytest.approx(0.02 / 4)  # 8 x .05^2 over 8 - 4
    assert found.seeds == pytest.approx((0.02 / 2 - 0.005) / 2)  # 8 x .05^2 over 4 - 2, less an image's, over 2 images
    assert found.people == pytest.approx((0.02 / 1 - 0.01) / 4)  # 8 x .05^2 over 2 - 1, less a seed's, over 4 images


def test_an_unbalanced_design_is_unbiased() -> None:
    """The mean estimate over 3,000 drawn data sets is the truth within its error; the design rarely cuts an estimate at 0."""
    person, seed = labels([[3, 1, 2], [2, 4, 2], [5, 1], [1, 1, 1], [4, 2], [2, 2, 2, 2], [6, 3], [1, 3]])
    sd, source = (1.5, 1.0, 0.5), rng(7)
    draws = [variance_split(drawn(person, seed, sd, source), person, seed) for _ in range(3000)]
    for name, truth in zip(("people", "seeds", "images"), np.square(sd), strict=True):
        found = np.array([getattr(one, name) for one in draws])
        assert (found == 0).mean() < 0.02, name
        assert found.mean() == pytest.approx(truth, abs=3 * found.std() / math.sqrt(len(found)) + 0.01), name


@pytest.mark.parametrize(
    ("sizes", "unknown"),
    [
        ([[4]] * 3, {"seeds"}),
        ([[1, 1]] * 3, {"images"}),
        ([[4, 4]], {"people"}),
        ([[1]], {"people", "seeds", "images"}),
    ],
)
def test_what_data_cant_tell_apart_is_nan(sizes: list[list[int]], unknown: set[str]) -> None:
    person, seed = labels(sizes)
    found = variance_split(rng().normal(size=len(person)), person, seed)
    assert {name for name in ("people", "seeds", "images") if math.isnan(getattr(found, name))} == unknown


def test_estimates_below_zero_are_zero() -> None:
    """Seeds of a person that differ less than their images let expect."""
    found = variance_split(np.array([0.0, 1, 1, 0, 0, 1, 1, 0]), [1] * 4 + [2] * 4, [0, 0, 1, 1] * 2)
    assert (found.people, found.seeds) == (0, 0) and found.images == pytest.approx(2 / 4)


def test_no_data() -> None:
    with pytest.raises(ValueError, match="one value, person and seed"):
        variance_split(np.array([]), [], [])
    with pytest.raises(ValueError, match="NaN"):
        variance_split(np.array([np.nan, 1.0]), [1, 2], [0, 0])


@pytest.mark.parametrize(("people", "seeds"), [(8, 1), (12, 3)])
def test_the_promised_width_is_that_of_paired_intervals(people: int, seeds: int) -> None:
    """Simulated runs: the mean half-width of the interval that `paired_difference` gives is the one promised, to 15 %."""
    truth = Split(0.0, 0.04, 0.02, 0.05, (people, people * seeds, people * seeds * 8))
    person, seed = labels([[8] * seeds] * people)
    widths = []
    for i in range(60):
        y = drawn(person, seed, (0.2, math.sqrt(0.02), math.sqrt(0.05)), rng(i))
        means = np.bincount(person, y) / np.bincount(person)
        found = paired_difference(means, np.zeros(people), rng(i))
        widths.append((found.high - found.low) / 2)
    assert np.mean(widths) == pytest.approx(truth.half_width(people, seeds, 8), rel=0.15)


def test_more_people_seeds_and_images_narrow_it() -> None:
    split = Split(0.5, 0.04, 0.02, 0.05, (4, 8, 64))
    assert split.error(4, 2, 8) == pytest.approx(math.sqrt(0.04 / 4 + 0.02 / 8 + 0.05 / 64))
    assert split.half_width(24, 1, 8) < split.half_width(12, 1, 8) and split.half_width(12, 3, 8) < split.half_width(
        12, 1, 8
    )
    unknown = Split(0.5, 0.04, math.nan, 0.05, (4, 4, 32))
    assert unknown.error(4, 1, 8) == pytest.approx(math.sqrt(0.04 / 4 + 0.05 / 32))
    with pytest.raises(ValueError, match="at least 2"):
        split.half_width(1)
