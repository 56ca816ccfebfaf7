"""Variance of a figure by people, training seeds and images, and the width of interval to expect of larger runs."""

import math
from collections.abc import Iterable, Sequence

import pandas as pd
from scipy.stats import chi2

from iddmbench.errors import UserError
from iddmbench.metrics.estimate import LEVEL
from iddmbench.metrics.variance import Split, variance_split
from iddmbench.results.per_subject import COMPLEMENTS, HITS, IMAGES
from iddmbench.results.run_folder import WORST_CASES
from iddmbench.results.selection import judges, searches
from iddmbench.results.summary import Condition, Summary

KEYS = ["subject", "seed", "prompt", "index"]
"""What an image is known by, in every condition."""
PEOPLE, SEEDS = (4, 8, 12, 24, 60), (1, 2, 3, 5)
"""Of the power table."""
METRIC = "r1u"


def image_values(summaries: Sequence[Summary], condition: Condition, metric: str, attacker: str = "") -> pd.Series:
    """A figure of each image, by KEYS; runs of one protocol (seeds, people) are pooled, and an image in two counts once.

    Images without a face have no value of an attacker's figure, as in the policy "acquired".

    Args:
        metric: a hit rate or its complement ("rank1_hit", "r1u", "psr@1e-2"), or a utility figure of images.
        attacker: a name; empty for utility.

    Raises KeyError for a figure that images do not have.
    """
    parts = []
    for summary in summaries:
        if metric in IMAGES:
            rows = condition.rows(summary.run.images)
            values = rows[IMAGES[metric]].astype(float)
        else:
            rows = condition.rows(summary.run.probes)
            rows = rows[(rows["attacker"] == attacker) & rows["acquired"]]
            hit = HITS[COMPLEMENTS.get(metric, metric)](rows).astype(float)
            values = 1 - hit if metric in COMPLEMENTS else hit
        parts.append(pd.Series(values.to_numpy(), index=pd.MultiIndex.from_frame(rows[KEYS])))
    found = pd.concat(parts).dropna()
    return found[~found.index.duplicated()]


def split_of(values: pd.Series) -> Split | None:
    """Its variance by people, seeds and images; None without values."""
    if not len(values):
        return None
    index = values.index
    people, seeds = list(index.get_level_values("subject")), list(index.get_level_values("seed"))
    return variance_split(values.to_numpy(dtype=float), people, seeds)


def variance_table(summaries: Sequence[Summary], metric: str = METRIC) -> pd.DataFrame:
    """One row for each condition and attacker that ranks people, then one for each utility figure of images.

    Columns: `defense`, `strength`, `metric`, `attacker`, `mean`; the standard deviations `people`, `seeds`, `images` (NaN where
    the run can't tell: with one seed, it is part of people); `share_people`, `share_seeds`, `share_images` of the
    variance of the run's mean; counts `subjects`, `models`, `n`.
    """
    rows = []
    for condition in _conditions(summaries):
        names = dict.fromkeys(a for summary in summaries for a in summary.attackers if searches(a))
        figures = [(metric, name) for name in names] + [(name, "") for name in IMAGES]
        for name, attacker in figures:
            split = split_of(image_values(summaries, condition, name, attacker))
            if split is not None:
                strength = math.nan if condition.strength is None else condition.strength
                rows.append(
                    {"defense": condition.defense, "strength": strength, "metric": name, "attacker": attacker}
                    | columns_of(split)
                )
    return pd.DataFrame(rows)


def columns_of(split: Split) -> dict[str, float]:
    """The columns of `variance_table` that a split fills."""
    people, models, images = split.counts
    parts = {"people": split.people / people, "seeds": split.seeds / models, "images": split.images / images}
    known = {name: 0.0 if math.isnan(part) else part for name, part in parts.items()}
    total = sum(known.values())
    shares = {f"share_{k}": math.nan if math.isnan(parts[k]) or not total else v / total for k, v in known.items()}
    deviations = {name: math.sqrt(getattr(split, name)) for name in parts}
    return {"mean": split.mean, **deviations, **shares, "subjects": people, "models": models, "n": images}


def paired_split(
    first: tuple[Sequence[Summary], Condition],
    second: tuple[Sequence[Summary], Condition],
    metric: str = METRIC,
    attackers: tuple[str, str] = ("", ""),
) -> Split:
    """The split of the differences, image by image, first less second: same person, seed, prompt and sampling noise.

    Raises UserError where the two have no image in common.
    """
    sides = [image_values(*side, metric, by) for side, by in zip((first, second), attackers, strict=True)]
    split = split_of((sides[0] - sides[1]).dropna())
    if split is None:
        raise UserError(f"{first[1].title} and {second[1].title} have no image with {metric} in common")
    return split


def power_table(split: Split, people: Iterable[int] = PEOPLE, seeds: Iterable[int] = SEEDS) -> pd.DataFrame:
    """Half-width of the 95 % interval to expect, by number of people (rows) and of seeds (columns), with as many images a model
    as the split rests on. With one seed a model's part is unknown, and only runs of one seed can be foretold."""
    per_model = max(1, round(split.counts[2] / split.counts[1]))
    columns = [s for s in seeds if s == 1 or not math.isnan(split.seeds)]
    rows = {k: [split.half_width(k, s, per_model) for s in columns] for k in people}
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def roughness(people: int) -> tuple[float, float]:
    """The factors between which a standard deviation estimated from that many people is right, at 95 %, if they are normal."""
    freedom = people - 1
    return tuple(math.sqrt(freedom / q) for q in chi2.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], freedom))  # type: ignore[return-value]


def strongest_rows(summary: Summary, table: pd.DataFrame) -> pd.DataFrame:
    """Of `variance_table`, the attackers that attain a worst case in their condition, and the utility figures."""
    kept = []
    for row in table.to_dict("records"):
        condition = Condition(row["defense"], None if math.isnan(row["strength"]) else row["strength"])
        names = {summary.strongest(condition, judge) for judge in judges(summary)}
        kept.append(not row["attacker"] or row["attacker"] in names)
    return table[pd.Series(kept, index=table.index, dtype=bool)]


def attacker_of(summary: Summary, condition: Condition, judge: str) -> str:
    """The attacker itself, for a worst case the one that attains it."""
    return summary.strongest(condition, judge) if judge in WORST_CASES else judge


def _conditions(summaries: Sequence[Summary]) -> list[Condition]:
    return list(dict.fromkeys(condition for summary in summaries for condition in summary.conditions))
