"""The base class of adaptive attackers, and what they share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np

from iddmbench.adaptive.posts import Fitted, Others, Posts, Restoration, Scores, Simulation
from iddmbench.attacker import Attacker
from iddmbench.errors import UserError
from iddmbench.guards import errors_of
from iddmbench.metrics.identification import mean_templates
from iddmbench.models.base import BaseModel
from iddmbench.options import Options, is_options, split_options, write_options
from iddmbench.types import Embeddings

Scorer = Callable[[Posts], Scores]


@dataclass(frozen=True, eq=False)
class Gallery:
    """Enrolled people as one system sees them.

    Attributes:
        identities: [I], sorted. templates: float [I, D], the normalized mean of each one's unit vectors.
    """

    identities: np.ndarray
    templates: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, labels: np.ndarray) -> "Gallery":
        """vectors: float [G, D], one per enrolled photo; labels: [G]."""
        return cls(*mean_templates(vectors, labels))

    def template(self, identity: str) -> np.ndarray:
        return self.templates[int(np.flatnonzero(self.identities == identity)[0])]

    def scores(self, view: Embeddings) -> Scores:
        """Cosines with all templates. Kept while the view is: whoever learns without each two people asks again and again."""
        if view not in self._known:
            self._known[view] = Scores(self.identities, view.vectors.astype(float) @ self.templates.T, view.acquired)
        return self._known[view]

    @cached_property
    def _known(self) -> WeakKeyDictionary[Embeddings, Scores]:
        return WeakKeyDictionary()


class AdaptiveOptions(Options):
    """Options of an adaptive attacker (`--attacker-set NAME.key=value`)."""


class Adaptive(ABC):
    """An attacker that prepares for one defense: it sees what the defense made of other people, then scores one subject.

    What a plugin's `views`, `learn` or `fit` returns is checked: a UserError names the attacker and says what is wrong,
    or what it raised.

    Args:
        galleries: of the systems that it wraps, in order.
        options: an instance of `Options`; the defaults where there is none.

    Attributes:
        name: prefix of its whole name ("finetune" in "finetune:dlib"). title: one line. several: whether it wraps more than one
            system. links_person: whether it links a post to a person, rather than to other posts.
        among_candidates: whether it ranks candidates of its own, not the gallery: with another chance level, it is in no worst
            case.
        knows_posts: whether it is given posts that are known to be the target's: more than any attacker of a worst case has.
        from_others_alone: whether `learn` uses other people's posts alone, and not who the target is (`Others.target`): what it
            learns without two people then serves both.
        version: raised when the algorithm changes, so that stale scores are not reused.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    several: ClassVar[bool] = False
    links_person: ClassVar[bool] = True
    among_candidates: ClassVar[bool] = False
    knows_posts: ClassVar[bool] = False
    from_others_alone: ClassVar[bool] = False
    version: ClassVar[int] = 1
    Options: ClassVar[type[AdaptiveOptions]] = AdaptiveOptions

    def __init__(self, galleries: Sequence[Gallery], options: AdaptiveOptions | None = None):
        self.galleries = list(galleries)
        self.options: Any = self.Options() if options is None else options

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        for method, check in CHECKS.items():
            if method in vars(cls):
                setattr(cls, method, _guarded(vars(cls)[method], method, check))

    @classmethod
    def read_argument(cls, rest: str) -> tuple[dict[str, Any], str]:
        """What follows "name:" as options and the systems that it wraps: "shrinkage=1:dlib" -> ({"shrinkage": "1"}, "dlib")."""
        if not is_options(rest):
            return {}, rest
        first, _, after = rest.partition(":")
        return dict(split_options(first)), after

    @classmethod
    def write_argument(cls, options: Any) -> str:
        """Options as they stand in a name, before the systems. Raises UserError for one that would be read otherwise."""
        text = write_options(options)
        if ":" in text:
            raise UserError(f"attacker '{cls.name}': option values can't contain a colon: {text}")
        return text

    def views(self, attackers: Sequence[Attacker], base: BaseModel) -> list[Attacker]:
        """What embeds the posts, one per entry of `Posts.views`; the systems themselves by default."""
        return list(attackers)

    def simulation(self) -> Simulation | None:
        """What it runs itself before it attacks (`Others.simulated`); None: nothing."""
        return None

    def restoration(self) -> Restoration | None:
        """How it restores images before they are embedded (`Posts.restored`); None: not at all."""
        return None

    def too_few(self, prompts: Sequence[str]) -> str | None:
        """Why a model that posts an image for each of these prompts posts too few, in one line; None where it does not."""
        return None

    def fit(self, others: Others) -> Fitted:
        """Learn from what the same defense made of other people. Deterministic."""
        return Fitted(frozenset(others.subjects), self.learn(others))

    @abstractmethod
    def learn(self, others: Others) -> Scorer:
        """How to score a subject who is not among `others`."""

    def key(self) -> dict[str, Any]:
        """What its scores depend on besides its name and views; empty for version 1."""
        return {} if self.version == 1 else {"version": self.version}


def _check_views(plugin: str, found: object) -> list[Attacker]:
    if not isinstance(found, list) or not found or not all(isinstance(view, Attacker) for view in found):
        raise UserError(f"{plugin} gives {type(found).__name__}, expected a list of at least one Attacker")
    return found


def _check_scorer(plugin: str, found: object) -> Scorer:
    if not callable(found):
        raise UserError(f"{plugin} gives {type(found).__name__}, expected a function from Posts to Scores")
    scorer: Scorer = found

    @wraps(scorer)
    def score(posts: Posts) -> Scores:
        with errors_of(plugin):
            scores = scorer(posts)
        return checked_scores(plugin, scores, posts)

    return score


def _check_fitted(plugin: str, found: object) -> Fitted:
    if not isinstance(found, Fitted):
        raise UserError(f"{plugin} gives {type(found).__name__}, expected Fitted(trained_on, score)")
    return replace(found, score=_check_scorer(plugin, found.score))


def _check_ways(plugin: str, found: object) -> list[Scorer]:
    if not isinstance(found, list) or not found:
        raise UserError(f"{plugin} gives {type(found).__name__}, expected a list of at least one function")
    return [_check_scorer(plugin, way) for way in found]


CHECKS: dict[str, Callable[[str, object], Any]] = {
    "views": _check_views,
    "ways": _check_ways,
    "learn": _check_scorer,
    "fit": _check_fitted,
}
"""What each method of a plugin has to give."""


def _guarded(own: Callable[..., Any], method: str, check: Callable[[str, object], Any]) -> Callable[..., Any]:
    @wraps(own)
    def guarded(self: Adaptive, *arguments: Any) -> Any:
        plugin = f"attacker '{self.name}': {method}"
        with errors_of(plugin):
            found = own(self, *arguments)
        return check(plugin, found)

    return guarded


def checked_scores(plugin: str, found: object, posts: Posts) -> Scores:
    """`found`, if they are scores of those posts against at least two people, the subject among them. Raises UserError."""

    def wrong(what: str) -> UserError:
        return UserError(f"{plugin} gives {what}")

    if not isinstance(found, Scores):
        raise wrong(f"{type(found).__name__}, not Scores(identities, values, acquired)")
    identities, values, acquired = found.identities, found.values, found.acquired
    if not all(isinstance(part, np.ndarray) for part in (identities, values, acquired)):
        raise wrong("Scores whose parts are not numpy arrays")
    if values.shape != (len(posts), len(identities)):
        raise wrong(f"scores of shape {values.shape}, expected {(len(posts), len(identities))} (posts, identities)")
    if acquired.shape != (len(posts),) or acquired.dtype != bool:
        raise wrong(f"acquired of {acquired.dtype} {acquired.shape}, expected bool {(len(posts),)}")
    if np.any(identities[1:] <= identities[:-1]):
        raise wrong("identities that are unsorted or repeated")
    if posts.subject not in identities:
        raise wrong(f"no score against '{posts.subject}': every enrolled person has one")
    if not np.isfinite(values).all():
        raise wrong("NaN or infinite scores")
    return found


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows (or the one vector) scaled to unit length; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
