"""Adaptive attackers in a run: they see all finished cells of one condition, and attack each subject in turn."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from iddmbench.adaptive import ADAPTIVE, FEWEST_SUBJECTS, AdaptiveName, build_adaptive, parse
from iddmbench.adaptive.base import Adaptive, Gallery
from iddmbench.adaptive.held_out import PairFits, shares_fits
from iddmbench.adaptive.posts import Fitted, Others, Posts, Scores
from iddmbench.attacker import Attacker, build_attacker
from iddmbench.errors import UserError
from iddmbench.linking.enrolment import Embed, enrol
from iddmbench.linking.linker import FARS, FEEDS, FPIRS, Feeds, Linkage, Linker, Matches, at_least, thresholds
from iddmbench.metrics.feed import pooled_scores
from iddmbench.metrics.verification import Threshold
from iddmbench.models.base import BaseModel
from iddmbench.types import FaceData


class AdaptiveLinker:
    """One adaptive attacker with its systems' galleries.

    Every threshold is calibrated on what the *same defense* made of other people, cross-fitted: the target aside, each
    person's posts are scored by an attacker that learned on the rest, against everybody whom they do not show.
    A rate finer than 3 / scores is left out.
    """

    def __init__(self, name: str, linkers: Sequence[Linker], base: BaseModel):
        parsed = parse(name)
        if parsed is None:
            raise ValueError(f"'{name}' is not an adaptive attacker")
        self.name = name
        self.linkers = tuple(linkers)
        self.attackers = [linker.attacker for linker in linkers]
        galleries = [Gallery.of(linker.gallery, linker.labels) for linker in linkers]
        self.adaptive: Adaptive = ADAPTIVE.get(parsed.kind)(galleries, build_adaptive(parsed).options)
        self.views: list[Attacker] = self.adaptive.views(self.attackers, base)

    def attack(self, everyone: Sequence[Posts], simulated: Sequence[Posts] = ()) -> list[Linkage]:
        """Linkage of what each finished model of one condition (one defense, strength and seed) posted, as `views` see it.

        simulated: what its own models made, if it asks for them (`Adaptive.simulation`).
        Raises UserError when they are of fewer than three subjects.
        """
        if len({posts.subject for posts in everyone}) < FEWEST_SUBJECTS:
            raise UserError(f"attacker '{self.name}' learns on other people: it needs {FEWEST_SUBJECTS} subjects")
        if shares_fits(self.adaptive):
            fitted = PairFits(self.adaptive, everyone).fitted()
            return [self._link(posts, fitted[posts.subject]) for posts in everyone]
        return [self._link(posts, self._fit(Others.than(posts.subject, everyone, simulated))) for posts in everyone]

    def _fit(self, others: Others) -> Fitted:
        """With `held_out`."""
        fitted = self.adaptive.fit(others)
        if fitted.held_out:
            return fitted
        strangers = [
            (self.adaptive.fit(others.without(name)).scores(part), name)
            for name in others.subjects
            for part in others.of(name)
        ]
        return replace(fitted, held_out=tuple(strangers))

    def _link(self, posts: Posts, fitted: Fitted) -> Linkage:
        scores, strangers = fitted.scores(posts), fitted.held_out or ()
        rest = [table.rest(name) for table, name in strangers]
        far = thresholds(np.concatenate([part.ravel() for part in rest]), FARS)
        fpir = thresholds(np.concatenate([part.max(1) for part in rest if part.shape[1]] or [np.zeros(0)]), FPIRS)
        return linkage(posts.subject, scores, far, fpir)


def linkage(subject: str, scores: Scores, far: dict[str, Threshold], fpir: dict[str, Threshold]) -> Linkage:
    """What one subject's scores say, as `Linker.link` says it of a plain attacker's."""
    n, seen = len(scores.acquired), scores.acquired
    mated, rank = np.full(n, np.nan), np.zeros(n, dtype=int)
    nonmated = np.full((n, len(scores.identities) - 1), np.nan)
    mated[seen], nonmated[seen], rank[seen] = scores.own(subject), scores.rest(subject), scores.ranks(subject)
    feeds = {}
    for count in (count for count in FEEDS if count <= n):
        pooled, acquired = pooled_scores(scores.values, seen, count)
        ranks = np.zeros(len(pooled), dtype=int)
        ranks[acquired] = Scores(scores.identities, pooled, acquired).ranks(subject)
        feeds[count] = Feeds(ranks, acquired)
    matched = {name: Matches(at_least(mated, t), t) for name, t in far.items()}
    found = {name: Matches(at_least(mated, t) & (rank == 1), t) for name, t in fpir.items()}
    return Linkage(seen, mated, nonmated, rank, matched, found, feeds)


@dataclass(frozen=True)
class Attackers:
    """The attackers of a run by name, and the systems that adaptive ones wrap; each system is built once.

    Attributes:
        systems: plain attackers, reported or not.
        plain: names of those that are reported. adaptive: names and what they wrap.
    """

    systems: dict[str, Attacker]
    plain: tuple[str, ...]
    adaptive: dict[str, AdaptiveName]

    @classmethod
    def of(cls, names: Iterable[str], own: Mapping[str, Attacker] = MappingProxyType({})) -> "Attackers":
        """own: attackers by name that stand in for installed ones."""
        parsed = {name: parse(name) for name in names}
        wanted = dict.fromkeys(base for name, how in parsed.items() for base in (how.bases if how else (name,)))
        plain = tuple(name for name, how in parsed.items() if how is None)
        systems = {name: own[name] if name in own else build_attacker(name) for name in wanted}
        return cls(systems, plain, {name: how for name, how in parsed.items() if how})

    def views(self, name: str, base: BaseModel) -> list[Attacker]:
        """What embeds the images for an attacker: itself, or the views of an adaptive one."""
        if name not in self.adaptive:
            return [self.systems[name]]
        how = self.adaptive[name]
        return build_adaptive(how).views([self.systems[system] for system in how.bases], base)

    def keys(self, name: str) -> dict[str, Any]:
        """What an attacker's scores depend on besides its views; empty for most."""
        return build_adaptive(self.adaptive[name]).key() if name in self.adaptive else {}


def build_linkers(
    attackers: Attackers, data: FaceData, embed: Embed, base: BaseModel
) -> tuple[dict[str, Linker], dict[str, AdaptiveLinker]]:
    """Plain and adaptive attackers by name, with the galleries of their systems. base: some adaptive ones purify with it.

    Raises UserError when a system can't work on these photos (`enrol`).
    """
    linkers = {name: Linker(system, enrol(system, data, embed)) for name, system in attackers.systems.items()}
    adaptive = {
        name: AdaptiveLinker(name, [linkers[system] for system in how.bases], base)
        for name, how in attackers.adaptive.items()
    }
    return {name: linkers[name] for name in attackers.plain}, adaptive
