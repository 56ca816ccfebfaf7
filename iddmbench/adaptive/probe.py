"""`probe:FR`: some posts of an account are known to be the person's; which other posts are?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import Field

from iddmbench.adaptive.base import AdaptiveOptions, Scorer, unit
from iddmbench.adaptive.held_out import Choosing
from iddmbench.adaptive.posts import Others, Posts, Scores
from iddmbench.adaptive.whitening import Whitening
from iddmbench.errors import UserError

SHRINKAGE = (0.1, 1.0, 10.0)
RIDGE = (0.01, 0.1, 1.0)

Enrolled = Mapping[str, np.ndarray]
"""Person -> float [n, D]: known posts, or the template of photos; no row where no known post has a face."""


@dataclass(frozen=True)
class ProbeSetting:
    """ridge: of a linear probe; None: nearest mean, after whitening with that shrinkage, or as it is where that is None too."""

    shrinkage: float | None = None
    ridge: float | None = None


SETTINGS = (ProbeSetting(), *(ProbeSetting(shrinkage=s) for s in SHRINKAGE), *(ProbeSetting(ridge=r) for r in RIDGE))


class ProbeOptions(AdaptiveOptions):
    known: int = Field(4, ge=1, le=256, description="posts of each account that are known to be the person's")


class Probe(Choosing):
    """How consistent the defended identity is: not linkage to photos.

    Of every account of the run, `known` posts are known to be the person's; the others of the gallery are enrolled by their
    photos. A post is asked about by what was learned from known posts of *other prompts* and other noise (of other noise, the
    even against the odd ones, where there is one prompt). Three ways to compare, of which leave-one-person-out on other
    people's accounts chooses: cosine with the mean of the known posts; the same after whitening with the covariance of other
    people's posts around their account's mean, (C + s tr(C)/D I)^(-1/2); a linear probe (Alain, Bengio 2016), here ridge
    regression on one-hot people, each with the same weight.
    An account none of whose known posts has a face gets the lowest score of each post.
    """

    name = "probe"
    title = "learns each account from some posts that are known to be the person's"
    knows_posts = True
    from_others_alone = True
    Options = ProbeOptions

    def too_few(self, prompts: Sequence[str]) -> str | None:
        return _too_few(np.array(prompts) if len(set(prompts)) > 1 else _parity(len(prompts)), self.options.known)

    def ways(self, others: Others) -> list[Scorer]:
        spread = _Spread(others)
        return [self._scorer(others, _way(s, spread)) for s in (SETTINGS if len(others) else SETTINGS[:1])]

    def _scorer(self, others: Others, compare: "Compare") -> Scorer:
        gallery, known = self.galleries[0], self.options.known

        def score(posts: Posts) -> Scores:
            x, acquired = posts.views[0].vectors.astype(float), posts.views[0].acquired
            by_prompt = len(set(posts.prompts)) > 1
            labels = _labels(posts, by_prompt)
            if problem := _too_few(labels, known):
                raise UserError(problem)
            values = np.zeros((len(posts), len(gallery.identities)))
            for asked in np.unique(labels):
                enrolled = {name: t[None] for name, t in zip(gallery.identities, gallery.templates, strict=True)}
                for account in (*others, posts):
                    enrolled[account.subject] = _known(account, _labels(account, by_prompt), asked, known)
                rows = labels == asked
                values[rows] = _with_absent(compare, x[rows], enrolled)
            # Standardized: the threshold is calibrated over fits of several settings, whose scales differ.
            return Scores(gallery.identities, values * acquired[:, None], acquired).standardized()

        return score


Compare = Callable[[np.ndarray, Enrolled], np.ndarray]
"""float [N, I]: posts [N, D] against people, each with at least one row."""


def _labels(posts: Posts, by_prompt: bool) -> np.ndarray:
    """Which posts are asked about together, and so are never known to each other: [N]."""
    return np.array(posts.prompts) if by_prompt else _parity(len(posts))


def _parity(count: int) -> np.ndarray:
    return np.array([("even", "odd")[i % 2] for i in range(count)])


def _too_few(labels: np.ndarray, known: int) -> str | None:
    """Says so where there are posts with fewer than `known` others."""
    least = min((int((labels != asked).sum()) for asked in np.unique(labels)), default=0)
    if least < known:
        return (
            f"attacker 'probe' knows {known} posts of other prompts than those it is asked about, but of {len(labels)} images "
            f"only {least} are: give more --images-per-prompt, or known={max(1, least)}"
        )
    return None


def _known(account: Posts, labels: np.ndarray, asked: str, known: int) -> np.ndarray:
    """float [n <= known, D]: the first posts with a face that are not asked about, prompts in turn."""
    turns: dict[str, int] = {}
    order = []
    for row, label in enumerate(labels):
        turns[label] = turns.get(label, 0) + 1
        if label != asked and account.views[0].acquired[row]:
            order.append((turns[label], row))
    return account.views[0].vectors[[row for _, row in sorted(order)[:known]]].astype(float)


def _with_absent(compare: Compare, x: np.ndarray, enrolled: Enrolled) -> np.ndarray:
    present = {name: rows for name, rows in enrolled.items() if len(rows)}
    values = np.zeros((len(x), len(enrolled)))
    found = np.array([name in present for name in enrolled])
    values[:, found] = compare(x, present)
    values[:, ~found] = values[:, found].min(1, keepdims=True)
    return values


def _way(setting: ProbeSetting, spread: "_Spread") -> Compare:
    if setting.ridge is not None:
        return _linear_probe(setting.ridge)
    return _nearest_mean if setting.shrinkage is None else spread.whitened(setting.shrinkage)


def _nearest_mean(x: np.ndarray, enrolled: Enrolled) -> np.ndarray:
    return unit(x) @ _means(enrolled).T


def _means(enrolled: Enrolled) -> np.ndarray:
    """float [I, D], unit length."""
    return unit(np.stack([rows.mean(0) for rows in enrolled.values()]))


class _Spread:
    """The mean of accounts, and the whitening of posts around their account's mean; computed once it is asked for."""

    def __init__(self, others: Others):
        self.others = others

    @cached_property
    def _learned(self) -> tuple[np.ndarray, Whitening]:
        views = [posts.views[0] for posts in self.others]
        accounts = [view.vectors[view.acquired].astype(float) for view in views if view.acquired.any()]
        accounts = accounts or [np.zeros((1, views[0].vectors.shape[1]))]
        mean = np.mean([vectors.mean(0) for vectors in accounts], axis=0)
        return mean, Whitening(np.concatenate([vectors - vectors.mean(0) for vectors in accounts]))

    def whitened(self, shrinkage: float) -> "Compare":
        def compare(x: np.ndarray, enrolled: Enrolled) -> np.ndarray:
            mean, whitening = self._learned
            return whitening.cosines(whitening.seen(x - mean), whitening.seen(_means(enrolled) - mean), shrinkage)

        return compare


def _linear_probe(ridge: float) -> Compare:
    def compare(x: np.ndarray, enrolled: Enrolled) -> np.ndarray:
        rows = np.concatenate(list(enrolled.values()))
        people = np.repeat(np.arange(len(enrolled)), [len(part) for part in enrolled.values()])
        share = 1 / np.bincount(people)[people]
        center = np.average(rows, axis=0, weights=share)
        root = np.sqrt(share)[:, None]
        design = (rows - center) * root
        targets = (people[:, None] == np.arange(len(enrolled))) * root
        if len(design) <= design.shape[1]:
            weights = design.T @ np.linalg.solve(design @ design.T + ridge * np.eye(len(design)), targets)
        else:
            weights = np.linalg.solve(design.T @ design + ridge * np.eye(design.shape[1]), design.T @ targets)
        return (x - center) @ weights

    return compare
