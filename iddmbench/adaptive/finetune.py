"""`finetune:FR`: a projection of the embedding, learned on what the defense does to other people."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field, field_validator

from iddmbench.adaptive.base import Adaptive, AdaptiveOptions, Gallery, Scorer, best, unit
from iddmbench.adaptive.posts import Fitted, Others, Posts, Scores
from iddmbench.options import Numbers

SHRINKAGE = (0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class Setting:
    """shrinkage: None leaves the system as it is. fitted: whether the identity's share is fitted. sign: of the score."""

    shrinkage: float | None
    fitted: bool
    sign: int


class FinetuneOptions(AdaptiveOptions):
    shrinkage: Annotated[Numbers, Field(min_length=1)] = Field(
        SHRINKAGE, description="covariance shrinkages to choose from, each above 0"
    )

    @field_validator("shrinkage")
    @classmethod
    def _positive(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if min(values) <= 0:
            raise ValueError("each shrinkage must be above 0")
        return values

    def settings(self) -> tuple[Setting, ...]:
        """All that is tried; the first leaves the system as it is."""
        ways = [(None, False), *((s, fitted) for fitted in (False, True) for s in self.shrinkage)]
        return tuple(Setting(shrinkage, fitted, sign) for sign in (1, -1) for shrinkage, fitted in ways)


class Finetune(Adaptive):
    """Whitens what the defense adds to the identity: within-class covariance normalization (Hatch, Kajarekar, Stolcke,
    Interspeech 2006), a class being a person, its members the template of real photos and the defended posts.

    Over other people's posts x with templates t: x = a t + d, with a = 1, or fitted by least squares (below 1 where the
    defense weakens the identity); d has mean m and covariance C. A post is compared as (x - m) P with (t - g) P by
    cosine, where g is the mean template, both centered, and P = (C + s tr(C)/D I)^(-1/2). The shrinkage s, the way of a,
    leaving the system as it is, and the sign of the score (a defense that overshoots makes the right person the *least*
    alike) are chosen by leave-one-person-out on those other people.
    """

    name = "finetune"
    title = "projection learned on the defense's outputs of other people"

    Options = FinetuneOptions

    def fit(self, others: Others) -> Fitted:
        settings = self.options.settings()
        trials: list[list[tuple[Scorer, Posts]]] = [[] for _ in settings]
        for subject in others.subjects:
            rest = others.without(subject)
            scorers = self._scorers(rest, settings if len(rest) else settings[:1])
            for pairs, scorer in zip(trials, scorers, strict=False):
                pairs += [(scorer, posts) for posts in others.of(subject)]
        chosen = best(trials) if all(trials) else 0
        held_out = tuple((scorer(posts), posts.subject) for scorer, posts in trials[chosen])
        return Fitted(frozenset(others.subjects), self._scorers(others, (settings[chosen],))[0], held_out)

    def learn(self, others: Others) -> Scorer:
        return self.fit(others).score

    def _scorers(self, others: Others, settings: tuple[Setting, ...]) -> list[Scorer]:
        gallery = self.galleries[0]
        models = {
            fitted: _Displacement(gallery, others, fitted) for fitted in {s.fitted for s in settings if s.shrinkage}
        }
        return [_scorer(gallery, models.get(s.fitted), s) for s in settings]


def _scorer(gallery: Gallery, model: "_Displacement | None", setting: Setting) -> Scorer:
    projected = None if setting.shrinkage is None or model is None else model.projection(setting.shrinkage)

    def score(posts: Posts) -> Scores:
        found = gallery.scores(posts.views[0]) if projected is None else projected(posts)
        # Standardized: the threshold is calibrated over fits of several settings, whose scales differ.
        return Scores(found.identities, setting.sign * found.values, found.acquired).standardized()

    return score


class _Displacement:
    """Mean and covariance (its eigenvalues and vectors) of d."""

    def __init__(self, gallery: Gallery, others: Others, fitted: bool):
        self.gallery, self.center = gallery, gallery.templates.mean(0)
        parts = [(p.views[0].vectors[p.views[0].acquired].astype(float), gallery.template(p.subject)) for p in others]
        posts = np.concatenate([vectors for vectors, _ in parts])
        people = np.concatenate([np.tile(t - self.center, (len(vectors), 1)) for vectors, t in parts])
        share = 1.0
        if fitted and len(posts):
            share = float(((posts - posts.mean(0)) * people).sum() / max((people**2).sum(), 1e-12))
        rest = posts - share * people
        self.mean = rest.mean(0) if len(rest) else self.center
        rest = rest - self.mean
        values, self.axes = np.linalg.eigh(rest.T @ rest / max(len(rest), 1))
        self.values = np.maximum(values, 0)
        self.people = (gallery.templates - self.center) @ self.axes

    def projection(self, shrinkage: float) -> Scorer:
        # P less its last rotation, which no cosine sees.
        scale = np.sqrt(self.values + shrinkage * max(self.values.mean(), 1e-9))
        templates = unit(self.people / scale).T

        def score(posts: Posts) -> Scores:
            view = posts.views[0]
            moved = unit((view.vectors.astype(float) - self.mean) @ self.axes / scale) * view.acquired[:, None]
            return Scores(self.gallery.identities, moved @ templates, view.acquired)

        return score
