"""`finetune:FR`: a projection of the embedding, learned on what the defense does to other people."""

import numpy as np

from iddmbench.adaptive.base import Adaptive, Gallery, Scorer, best, unit
from iddmbench.adaptive.posts import Others, Posts, Scores

SHRINKAGE = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class Finetune(Adaptive):
    """Whitens the displacement that the defense causes: within-class covariance normalization (Hatch, Kajarekar, Stolcke,
    Interspeech 2006), the class being a person and its members the template of real photos and the defended posts.

    With d = x - t, an embedding less its person's template, over other people's posts: mean m, covariance C. A post x is
    compared as (x - m - g) P with (t - g) P by cosine, where g is the mean template and P = (C + s tr(C)/D I)^(-1/2). The
    shrinkage s, leaving the system as it is, and the sign of the score (a defense that overshoots makes the right
    person the *least* alike) are chosen by leave-one-person-out on those other people.
    """

    kind = "finetune"
    title = "projection learned on the defense's outputs of other people"

    def learn(self, others: Others) -> Scorer:
        settings: list[tuple[float | None, int]] = [(s, sign) for sign in (1, -1) for s in (None, *SHRINKAGE)]
        if len(others.subjects) < 2:
            return self._scorer(others, None, 1)
        trials = []
        for shrinkage, sign in settings:
            pairs = []
            for subject in others.subjects:
                scorer = self._scorer(others.without(subject), shrinkage, sign)
                pairs += [(scorer, posts) for posts in others.of(subject)]
            trials.append(pairs)
        return self._scorer(others, *settings[best(trials)])

    def _scorer(self, others: Others, shrinkage: float | None, sign: int) -> Scorer:
        gallery = self.galleries[0]
        project = None if shrinkage is None else _Projection(gallery, others, shrinkage)

        def score(posts: Posts) -> Scores:
            plain = gallery.scores(posts.views[0]) if project is None else project(posts)
            return Scores(plain.identities, sign * plain.values, plain.acquired)

        return score


class _Projection:
    def __init__(self, gallery: Gallery, others: Others, shrinkage: float):
        known = [(posts.views[0].vectors[posts.views[0].acquired].astype(float), posts.subject) for posts in others]
        displaced = np.concatenate([vectors - gallery.template(name) for vectors, name in known])
        width = gallery.templates.shape[1]
        self.gallery, self.center = gallery, gallery.templates.mean(0)
        self.shift = displaced.mean(0) if len(displaced) else np.zeros(width)
        rest = displaced - self.shift
        values, axes = np.linalg.eigh(rest.T @ rest / max(len(rest), 1))
        values = np.maximum(values, 0) + shrinkage * max(values.mean(), 1e-9)
        self.matrix = (axes / np.sqrt(values)) @ axes.T
        self.templates = unit((gallery.templates - self.center) @ self.matrix)

    def __call__(self, posts: Posts) -> Scores:
        view = posts.views[0]
        moved = unit((view.vectors.astype(float) - self.shift - self.center) @ self.matrix)
        return Scores(self.gallery.identities, (moved @ self.templates.T) * view.acquired[:, None], view.acquired)
