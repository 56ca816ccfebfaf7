import numpy as np
from pydantic import Field

from iddmbench.adaptive.base import Adaptive, AdaptiveOptions, Scorer, unit
from iddmbench.adaptive.posts import Others, Posts, Scores


class ShiftOptions(AdaptiveOptions):
    share: float = Field(1.0, ge=0, le=1, description="share of the mean shift that is subtracted")


class Shift(Adaptive):
    """Subtracts what the defense adds to everybody's embeddings: the mean of posts less templates, over other people."""

    name = "my-shift"
    title = "mean shift of other people's posts subtracted"
    Options = ShiftOptions

    def learn(self, others: Others) -> Scorer:
        gallery = self.galleries[0]
        shifts = [p.views[0].vectors[p.views[0].acquired] - gallery.template(p.subject) for p in others]
        shift = self.options.share * np.concatenate(shifts).mean(0) if sum(map(len, shifts)) else 0.0

        def score(posts: Posts) -> Scores:
            view = posts.views[0]
            moved = unit(view.vectors - shift) * view.acquired[:, None]
            return Scores(gallery.identities, moved @ gallery.templates.T, view.acquired)

        return score
