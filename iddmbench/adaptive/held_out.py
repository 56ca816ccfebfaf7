"""What an attacker makes of people whom it did not learn from: by that it chooses among ways to score, and sets thresholds."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from iddmbench.adaptive.base import Adaptive, Scorer
from iddmbench.adaptive.posts import Fitted, Others, Posts, Scores


@dataclass(frozen=True)
class Trial:
    """How well scores link somebody's acquired posts: whether at rank 1, bool [n]; the lead over the runner-up, in standard
    deviations, float [n]."""

    hits: np.ndarray
    leads: np.ndarray

    @classmethod
    def of(cls, scores: Scores, subject: str) -> "Trial":
        if not scores.acquired.any():
            return cls(np.zeros(0, bool), np.zeros(0))
        own, rest = scores.own(subject), scores.rest(subject)
        return cls((rest > own[:, None]).sum(1) == 0, (own - rest.max(1)) / np.maximum(rest.std(1), 1e-12))


def best(ways: Sequence[Sequence[Trial]]) -> int:
    """Index of the way to score that links most, each given by its trials.

    By rank-1 hits; among equals by the mean lead; the first of those. The first, too, where a way was not tried.
    """
    if not all(ways):
        return 0
    return int(max(range(len(ways)), key=lambda index: (*_success(ways[index]), -index)))


def _success(trials: Sequence[Trial]) -> tuple[float, float]:
    hits, leads = (np.concatenate(parts) for parts in zip(*((t.hits, t.leads) for t in trials), strict=True))
    return (float(np.mean(hits)), round(float(np.mean(leads)), 9)) if len(hits) else (0.0, 0.0)


class Choosing(Adaptive):
    """An attacker that tries several ways to score, and keeps the one that links most of those other people's posts on whom it
    was not fitted: leave-one-person-out."""

    @abstractmethod
    def ways(self, others: Others) -> list[Scorer]:
        """Each way, fitted on `others`; the first alone where there is nobody to learn the rest on."""

    def fit(self, others: Others) -> Fitted:
        found: dict[str, list[list[Scores]]] = {}
        for subject in others.subjects:
            ways = self.ways(others.without(subject))
            found[subject] = [[way(posts) for posts in others.of(subject)] for way in ways]
        chosen = best(by_way([[[Trial.of(s, name) for s in way] for way in ways] for name, ways in found.items()]))
        held_out = tuple((scores, name) for name, ways in found.items() for scores in ways[chosen])
        return Fitted(frozenset(others.subjects), self.ways(others)[chosen], held_out)

    def learn(self, others: Others) -> Scorer:
        return self.fit(others).score


def by_way(people: Sequence[Sequence[Sequence[Trial]]]) -> list[list[Trial]]:
    """Trials by way, all people's together, from those by person and way."""
    count = max(map(len, people), default=1)
    return [[t for ways in people for t in ways[i]] if all(len(w) > i for w in people) else [] for i in range(count)]


def shares_fits(adaptive: Adaptive) -> bool:
    """Whether what it learns depends on the posts of other people alone, not on whom it attacks."""
    whole = Choosing.fit if isinstance(adaptive, Choosing) else Adaptive.fit
    return adaptive.from_others_alone and type(adaptive).fit is whole


class PairFits:
    """An attacker that attacks each of several people in turn, with the others left out too one by one.

    It is then fitted without each two people, and the same whichever of them is the target: once, which `shares_fits` allows.
    Nobody is scored by what was learned from them.
    """

    def __init__(self, adaptive: Adaptive, everyone: Sequence[Posts]):
        self._adaptive = adaptive
        people = sorted({posts.subject for posts in everyone})
        self._others = {name: Others.than(name, everyone) for name in people}

    def fitted(self) -> dict[str, Fitted]:
        """As `Adaptive.fit` gives it for each person as the target, with `held_out`."""
        chosen = self._choice()
        held_out: dict[tuple[str, str], list[Scores]] = {}
        for target, person, rest, ways in self._fits():
            scorer = Fitted(rest, ways[chosen[target]])
            held_out[target, person] = [scorer.scores(posts) for posts in self._others[target].of(person)]
        return {
            target: Fitted(
                frozenset(others.subjects),
                self._ways(others)[chosen[target]],
                tuple((scores, name) for name in others.subjects for scores in held_out[target, name]),
            )
            for target, others in self._others.items()
        }

    def _choice(self) -> dict[str, int]:
        """The way to score by target. Only how well each way did is kept: scores by all ways of all pairs are too many."""
        if not isinstance(self._adaptive, Choosing):
            return dict.fromkeys(self._others, 0)
        trials: dict[tuple[str, str], list[list[Trial]]] = {}
        for target, person, rest, ways in self._fits():
            posts = self._others[target].of(person)
            trials[target, person] = [[Trial.of(Fitted(rest, w).scores(p), person) for p in posts] for w in ways]
        return {
            target: best(by_way([trials[target, name] for name in others.subjects]))
            for target, others in self._others.items()
        }

    def _fits(self) -> Iterator[tuple[str, str, frozenset[str], list[Scorer]]]:
        """Each target and each further person left out, and what was learned from the rest: people, and ways to score."""
        for a, b in combinations(self._others, 2):
            rest = self._others[a].without(b)
            people, ways = frozenset(rest.subjects), self._ways(rest)
            yield a, b, people, ways
            yield b, a, people, ways

    def _ways(self, others: Others) -> list[Scorer]:
        adaptive = self._adaptive
        return adaptive.ways(others) if isinstance(adaptive, Choosing) else [adaptive.learn(others)]
