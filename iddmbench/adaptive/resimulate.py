"""`resimulate:FR`: runs the defense itself on other photos of each candidate, and compares posts with what comes out."""

from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from iddmbench.adaptive.base import Adaptive, AdaptiveOptions, Gallery, Scorer, unit
from iddmbench.adaptive.finetune import Finetune
from iddmbench.adaptive.posts import Others, Posts, Scores, Simulation


class ResimulateOptions(AdaptiveOptions):
    candidates: int | Literal["all"] = Field(8, description="people to choose from, the right one among them; or all")
    keys: int = Field(2, ge=1, le=16, description="models per candidate, with different random numbers; averaged")
    tuned: bool = Field(
        False,
        description="semi-informed: the recognition system is tuned on the defense's outputs of other people first",
    )
    secret: Literal["unknown", "leaked"] = Field(
        "unknown",
        description="leaked: each candidate is run with the random numbers of their own model, an upper bound",
    )

    @field_validator("candidates")
    @classmethod
    def _several(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 2:
            raise ValueError("give at least 2, or all")
        return value


class Resimulate(Adaptive):
    """Parrot recognition (Newton, Sweeney, Malin, "Preserving privacy by de-identifying face images", 2005); the
    lazy-informed attacker of the VoicePrivacy Challenge, or the semi-informed one with `tuned`.

    The attacker has the defense, its settings and the base model, but not the random numbers of anybody's model. For each
    candidate it personalizes models on photos that the person's own model never saw, with seeds of its own, and generates by
    the protocol's prompts. A candidate's template is the normalized mean of the outputs' unit vectors over all keys; a post is
    compared with all templates by cosine. Chance at rank 1 is one in the number of candidates.
    With `tuned`, `finetune` learns its projection on other people's posts and their templates.
    """

    name = "resimulate"
    title = "runs the defense on other photos of each candidate, and enrols what comes out"
    among_candidates = True
    Options = ResimulateOptions

    def simulation(self) -> Simulation:
        o = self.options
        leaked = o.secret == "leaked"
        return Simulation(None if o.candidates == "all" else o.candidates, 1 if leaked else o.keys, leaked)

    def learn(self, others: Others) -> Scorer:
        gallery = self._gallery(others)
        if self.options.tuned:
            known = [posts for posts in others if posts.subject in gallery.identities]
            if known:
                return Finetune([gallery]).learn(Others(others.target, known))

        def score(posts: Posts) -> Scores:
            return gallery.scores(posts.views[0])

        return score

    def _gallery(self, others: Others) -> Gallery:
        """The target and the first others among the candidates, by what their simulated models post."""
        sums: dict[str, np.ndarray] = {}
        for posts in others.simulated:
            view = posts.views[0]
            sums[posts.subject] = sums.get(posts.subject, 0) + view.vectors[view.acquired].astype(float).sum(0)
        if others.target not in sums:
            raise ValueError(f"no simulated model of '{others.target}'")
        wanted = self.simulation().candidates or len(sums)
        rest = [name for name in sums if name != others.target]
        names = sorted([others.target, *rest[: wanted - 1]])
        return Gallery(np.array(names), np.stack([unit(sums[name]) for name in names]))
