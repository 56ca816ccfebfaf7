"""`enrol-generated:FR`: the gallery holds earlier posts too, whose person has become known."""

import numpy as np

from iddmbench.adaptive.base import Adaptive, Scorer, unit
from iddmbench.adaptive.posts import Others, Posts, Scores


class EnrolGenerated(Adaptive):
    """Each subject has two templates, of real photos and of half of their model's posts; the better one counts.

    A post is never enrolled against itself: those with an even number are compared with the template of the odd ones, and
    the other way round. Distractors have their photos only.
    """

    name = "enrol-generated"
    title = "half of a model's posts are enrolled with the photos"
    from_others_alone = True

    def learn(self, others: Others) -> Scorer:
        gallery = self.galleries[0]
        earlier: dict[tuple[str, int], np.ndarray] = {}
        for posts in others:
            for parity in (0, 1):
                key = posts.subject, parity
                earlier[key] = earlier.get(key, 0) + _sum(posts, parity)

        def score(posts: Posts) -> Scores:
            plain = gallery.scores(posts.views[0])
            values = plain.values.copy()
            vectors = posts.views[0].vectors.astype(float)
            for parity in (0, 1):
                rows = np.arange(len(posts)) % 2 == parity
                templates = {name: total for (name, half), total in earlier.items() if half != parity}
                templates[posts.subject] = _sum(posts, 1 - parity)
                for name, total in templates.items():
                    (column,) = np.flatnonzero(gallery.identities == name)
                    if np.any(total):
                        values[rows, column] = np.maximum(values[rows, column], vectors[rows] @ unit(total))
            return Scores(plain.identities, values * plain.acquired[:, None], plain.acquired)

        return score


def _sum(posts: Posts, parity: int) -> np.ndarray:
    """Sum of the unit vectors of the posts with even (0) or odd (1) numbers; posts without a face add nothing."""
    view = posts.views[0]
    chosen = (np.arange(len(posts)) % 2 == parity) & view.acquired
    return view.vectors[chosen].astype(float).sum(0)
