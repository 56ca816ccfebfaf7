"""`finetune:FR`: a projection of the embedding, learned on what the defense does to other people."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import Field, field_validator

from iddmbench.adaptive.base import AdaptiveOptions, Gallery, Scorer
from iddmbench.adaptive.held_out import Choosing
from iddmbench.adaptive.posts import Others, Posts, Scores
from iddmbench.adaptive.whitening import Seen, Whitening
from iddmbench.options import Numbers
from iddmbench.types import Embeddings

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


class Finetune(Choosing):
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
    from_others_alone = True
    Options = FinetuneOptions

    def ways(self, others: Others) -> list[Scorer]:
        gallery, settings = self.galleries[0], self.options.settings()
        models = {fitted: _Displacement(gallery, others, fitted) for fitted in (False, True)}
        return [_scorer(gallery, models[s.fitted], s) for s in (settings if len(others) else settings[:1])]


def _scorer(gallery: Gallery, model: "_Displacement", setting: Setting) -> Scorer:
    def score(posts: Posts) -> Scores:
        view = posts.views[0]
        found = gallery.scores(view) if setting.shrinkage is None else model.scores(view, setting.shrinkage)
        # Standardized: the threshold is calibrated over fits of several settings, whose scales differ.
        return Scores(found.identities, setting.sign * found.values, found.acquired).standardized()

    return score


class _Displacement:
    """Whitens d, once it is asked to. What it makes of a view is kept, as several settings ask for it."""

    def __init__(self, gallery: Gallery, others: Others, fitted: bool):
        self.gallery, self.center = gallery, gallery.templates.mean(0)
        self.others, self.fitted = others, fitted
        self.seen: dict[Embeddings, Seen] = {}
        self.known: dict[tuple[Embeddings, float], Scores] = {}

    @cached_property
    def _learned(self) -> tuple[np.ndarray, Whitening, Seen]:
        """The mean of d, its whitening, and the gallery under that."""
        parts = [
            (p.views[0].vectors[p.views[0].acquired].astype(float), self.gallery.template(p.subject))
            for p in self.others
        ]
        posts = np.concatenate([vectors for vectors, _ in parts])
        people = np.concatenate([np.tile(t - self.center, (len(vectors), 1)) for vectors, t in parts])
        share = 1.0
        if self.fitted and len(posts):
            share = float(((posts - posts.mean(0)) * people).sum() / max((people**2).sum(), 1e-12))
        rest = posts - share * people
        mean = rest.mean(0) if len(rest) else self.center
        whitening = Whitening(rest - mean)
        return mean, whitening, whitening.seen(self.gallery.templates - self.center)

    def scores(self, view: Embeddings, shrinkage: float) -> Scores:
        if (view, shrinkage) not in self.known:
            mean, whitening, people = self._learned
            if view not in self.seen:
                self.seen[view] = whitening.seen(view.vectors.astype(float) - mean)
            moved = whitening.cosines(self.seen[view], people, shrinkage)
            self.known[view, shrinkage] = Scores(self.gallery.identities, moved * view.acquired[:, None], view.acquired)
        return self.known[view, shrinkage]
