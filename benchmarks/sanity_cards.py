"""Verification on ORL for every attacker that runs here: the cards in docs/attackers.md.

    python benchmarks/sanity_cards.py [ATTACKER ...] [--write docs/attackers.md]

All 400 photos, every pair of two photos: 1,800 of one person, 78,000 of two. Intervals draw people first, then photos.
People that an attacker was trained on (eigenfaces) are left out.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from iddmbench.attacker import ATTACKERS, build_attacker
from iddmbench.datasets.orl import photo
from iddmbench.metrics.estimate import Estimate
from iddmbench.metrics.verification import eer, threshold_at_far

BEGIN, END = "<!-- cards: python benchmarks/sanity_cards.py -->", "<!-- end of cards -->"
RESAMPLES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attackers", nargs="*", help="by default all that run here without a file of your own")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its two marks")
    options = parser.parse_args()
    names = options.attackers or [name for name in ATTACKERS.names() if build_attacker(name).available() is None]
    rows = ["| attacker | EER | TAR at FAR 1e-3 | rank 1 | faces found | people |", "|---|---|---|---|---|---|"]
    rows += [card(name) for name in names]
    table = "\n".join(rows)
    print(table)
    if options.write:
        head, _, rest = options.write.read_text(encoding="utf-8").partition(BEGIN)
        _, _, tail = rest.partition(END)
        options.write.write_text(f"{head}{BEGIN}\n\n{table}\n\n{END}{tail}", encoding="utf-8")


def card(name: str) -> str:
    attacker = build_attacker(name)
    photos = [photo(p, k) for p in range(1, 41) for k in range(1, 11)]
    photos = [p for p in photos if ("orl", p.name) not in attacker.trained_on]
    found = attacker.embed([p.image for p in photos])
    people = np.array([p.name.partition("/")[0] for p in photos])[found.acquired]
    vectors = found.vectors[found.acquired].astype(float)
    scores = vectors @ vectors.T
    values = {"eer": by_people(scores, people, pairs_eer), "tar": by_people(scores, people, pairs_tar)}
    np.fill_diagonal(scores, -2)
    rank1 = (people[scores.argmax(1)] == people).mean()
    shown = " | ".join(f"{100 * v.value:.1f} % [{100 * v.low:.1f}-{100 * v.high:.1f}]" for v in values.values())
    faces = f"{100 * found.acquired.mean():.1f} %"
    return f"| `{name}` | {shown} | {100 * rank1:.1f} % | {faces} | {len(set(people))} |"


def pairs_eer(genuine: np.ndarray, impostors: np.ndarray) -> float:
    return eer(genuine, impostors)


def pairs_tar(genuine: np.ndarray, impostors: np.ndarray) -> float:
    return float((genuine >= threshold_at_far(impostors, 1e-3).value).mean())


def by_people(scores: np.ndarray, people: np.ndarray, statistic: Callable[[np.ndarray, np.ndarray], float]) -> Estimate:
    """Two-stage bootstrap: people, then photos of each. A photo drawn twice makes no pair with itself."""
    rows = {name: np.flatnonzero(people == name) for name in sorted(set(people))}
    names, rng = list(rows), np.random.default_rng(0)

    def value(drawn: list[np.ndarray]) -> float:
        order = np.concatenate(drawn)
        label = np.repeat(np.arange(len(drawn)), [len(d) for d in drawn])
        first, second = np.triu_indices(len(order), 1)
        same, apart = label[first] == label[second], people[order[first]] != people[order[second]]
        table = scores[order[first], order[second]]
        return statistic(table[same & (order[first] != order[second])], table[apart])

    samples = []
    for _ in range(RESAMPLES):
        chosen = [rows[names[i]] for i in rng.integers(len(names), size=len(names))]
        samples.append(value([r[rng.integers(len(r), size=len(r))] for r in chosen]))
    low, high = np.percentile(samples, [2.5, 97.5])
    return Estimate(value(list(rows.values())), float(low), float(high), len(people), len(names))


if __name__ == "__main__":
    main()
