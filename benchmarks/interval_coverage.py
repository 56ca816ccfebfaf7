"""Simulated coverage of the intervals, as tables of docs/metrics.md.

    python benchmarks/interval_coverage.py [--draws 400] [--only rates|scores|index]

rates    beta-binomial subjects with 16 images each: subjects x true rate x correlation of a subject's images. For each cell
         the share of intervals that hold the true rate, and their mean width, for `rate_interval`; last the share for a
         percentile bootstrap of subjects and images, which is what many tables report.
scores   means of a score: normal and skewed subjects.
index    the utility index: four components relative to an undefended model of the same subjects, near 1 and in the middle.
"""

import argparse
from collections.abc import Iterator

import numpy as np

from iddmbench.linking.aggregate import RESAMPLES, index_of, informative
from iddmbench.metrics.bootstrap import mean_interval, resampled_means, summarize
from iddmbench.metrics.rates import Rate, rate_intervals

SUBJECTS = (2, 4, 6, 12, 24)
RATES = (0.01, 0.05, 0.2, 0.5)
CORRELATIONS = (0.1, 0.4, 0.8)
IMAGES = 16
SEED = 2026


def beta_binomial(subjects: int, rate: float, correlation: float, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Hits float [draws, subjects] of IMAGES images each; a subject's own rate is Beta distributed with that correlation."""
    spread = (1 - correlation) / correlation
    return rng.binomial(IMAGES, rng.beta(rate * spread, (1 - rate) * spread, (draws, subjects))).astype(float)


def coverage_of_rates(
    subjects: int, rate: float, correlation: float, draws: int, seed: int = SEED
) -> tuple[float, float]:
    """(share of 95 % intervals that hold the rate, their mean width)."""
    rng = np.random.default_rng([seed, subjects, round(1000 * rate), round(1000 * correlation)])
    hits = beta_binomial(subjects, rate, correlation, draws, rng)
    images = np.full(subjects, float(IMAGES))
    found = rate_intervals([Rate(h, images, IMAGES) for h in hits])
    held = [e.low <= rate <= e.high for e in found]
    return float(np.mean(held)), float(np.mean([e.high - e.low for e in found]))


def coverage_of_percentiles(subjects: int, rate: float, correlation: float, draws: int) -> float:
    """The same share for the percentile bootstrap of subjects, then images of each."""
    rng = np.random.default_rng([SEED, subjects, round(1000 * rate), round(1000 * correlation)])
    held = []
    for hits in beta_binomial(subjects, rate, correlation, draws, rng):
        own = hits[rng.integers(subjects, size=(500, subjects))] / IMAGES
        means = rng.binomial(IMAGES, own).mean(1) / IMAGES
        low, high = np.quantile(means, [0.025, 0.975])
        held.append(low <= rate <= high)
    return float(np.mean(held))


def coverage_of_means(subjects: int, skewed: bool, draws: int) -> tuple[float, float]:
    """Means of scores; skewed: subjects' own means are exponential."""
    rng = np.random.default_rng([SEED, subjects, skewed])
    held, widths = [], []
    for _ in range(draws):
        own = rng.exponential(1, subjects) if skewed else rng.normal(1, 1, subjects)
        found = mean_interval([mean + rng.normal(0, 1, IMAGES) for mean in own])
        held.append(found.low <= 1 <= found.high)
        widths.append(found.high - found.low)
    return float(np.mean(held)), float(np.mean(widths))


def coverage_of_index(subjects: int, level: float, draws: int) -> tuple[float, float]:
    """The utility index of a method whose components are `level` times the undefended model's, subject by subject."""
    rng = np.random.default_rng([SEED, subjects, round(1000 * level)])
    large = _tables(4000, level, rng)
    means = np.concatenate(large).mean(0)
    truth = index_of(means, informative(means))
    held, widths = [], []
    for _ in range(draws):
        tables = _tables(subjects, level, rng)
        means = np.concatenate(tables).mean(0)
        used = informative(means)
        samples = np.array([index_of(m, used) for m in resampled_means(tables, rng, RESAMPLES // 5)])
        samples = samples[np.isfinite(samples)]
        found = summarize(index_of(means, used), samples, subjects * IMAGES, subjects, bounds=(0.0, 1.0))
        held.append(found.low <= truth <= found.high)
        widths.append(found.high - found.low)
    return float(np.mean(held)), float(np.mean(widths))


def _tables(subjects: int, level: float, rng: np.random.Generator) -> list[np.ndarray]:
    """As `index_tables`: own, undefended and generic, each usable, realism, kept look and adherence, and which are defined."""
    tables = []
    for _ in range(subjects):
        quality, columns = rng.normal(0, 0.05, 3), []
        for scale, kept in ((level, level), (1.0, 1.0), (1.0, 0.05)):
            usable = rng.random(IMAGES) < np.clip(0.97 * scale + quality[0], 0, 1)
            realism = 0.5 + 0.35 * scale + 0.5 * quality[1] + rng.normal(0, 0.05, IMAGES)
            look = 0.68 * kept + 2 * quality[2] + rng.normal(0, 0.15, IMAGES)
            adherence = (rng.random(IMAGES) < 1 / 3 + 0.4 * scale).astype(float)
            for values, floor in ((1.0, 0.0), (realism, 0.5), (look, 0.0), (adherence, 1 / 3)):
                columns += [np.where(usable, values, floor), np.ones(IMAGES)]
        tables.append(np.column_stack(columns))
    return tables


def rates(draws: int) -> Iterator[str]:
    yield (
        "| subjects | true rate | "
        + " | ".join(f"correlation {c:g}" for c in CORRELATIONS)
        + " | percentile bootstrap, .4 |"
    )
    yield "|---|---|" + "---|" * (len(CORRELATIONS) + 1)
    for subjects in SUBJECTS:
        for rate in RATES:
            cells = [coverage_of_rates(subjects, rate, c, draws) for c in CORRELATIONS]
            texts = [f"{share:.3f} / {width:.2f}" for share, width in cells]
            before = f"{coverage_of_percentiles(subjects, rate, 0.4, draws):.2f}"
            yield f"| {subjects} | {rate:.2f} | " + " | ".join([*texts, before]) + " |"


def scores(draws: int) -> Iterator[str]:
    yield "| subjects | mean of normal subjects | of exponential ones |"
    yield "|---|---|---|"
    for subjects in SUBJECTS:
        cells = [coverage_of_means(subjects, skewed, draws) for skewed in (False, True)]
        yield f"| {subjects} | " + " | ".join(f"{share:.3f} / {width:.2f}" for share, width in cells) + " |"


def index(draws: int) -> Iterator[str]:
    yield "| subjects | index of components at 0.95 | at 0.75 |"
    yield "|---|---|---|"
    for subjects in SUBJECTS:
        cells = [coverage_of_index(subjects, level, draws) for level in (0.95, 0.75)]
        yield f"| {subjects} | " + " | ".join(f"{share:.3f} / {width:.2f}" for share, width in cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400, help="simulated data sets a cell")
    parser.add_argument("--only", choices=("rates", "scores", "index"), action="append")
    options = parser.parse_args()
    for name, table in (("rates", rates), ("scores", scores), ("index", index)):
        if name in (options.only or ("rates", "scores", "index")):
            print(*table(options.draws), "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
