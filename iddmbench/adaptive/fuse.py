"""`fuse:FR+FR`: score fusion of several systems."""

from typing import Literal

import numpy as np
from pydantic import Field

from iddmbench.adaptive.base import Adaptive, AdaptiveOptions, Gallery, Scorer
from iddmbench.adaptive.logistic import logistic
from iddmbench.adaptive.posts import Others, Posts, Scores


class FuseOptions(AdaptiveOptions):
    rule: Literal["linear", "squares"] = Field(
        "linear", description="weighted scores, or a logistic regression on standardized scores and their squares"
    )
    ridge: float = Field(1.0, gt=0, description="with rule=squares: penalty on the weights")


class Fuse(Adaptive):
    """A weighted sum of the systems' scores: w = (mean mated - mean non-mated) / non-mated variance of each, learned on
    other people's posts (Fisher's discriminant with a diagonal covariance). A system that finds no face adds nothing.

    With `rule=squares`, a logistic regression on z_k and z_k^2 of every system k, z_k the score standardized over the gallery:
    a square sees a right person who is marked by a score that is too low. Mated and non-mated pairs have equal weight in sum.
    """

    name = "fuse"
    title = "score fusion of several systems, weighted on the defense's outputs of other people"
    several = True
    from_others_alone = True
    Options = FuseOptions

    def learn(self, others: Others) -> Scorer:
        return self._squares(others) if self.options.rule == "squares" else self._linear(others)

    def _squares(self, others: Others) -> Scorer:
        rows, mated = [], []
        for posts in others:
            names, features, seen = _features(self.galleries, posts)
            rows.append(features[seen].reshape(-1, features.shape[2]))
            mated.append(np.tile(names == posts.subject, int(seen.sum())))
        x, y = np.concatenate(rows), np.concatenate(mated)
        if not y.any():
            return self._linear(others)
        weights = logistic(x, y, self.options.ridge)

        def score(posts: Posts) -> Scores:
            names, features, seen = _features(self.galleries, posts)
            return Scores(names, (features @ weights) * seen[:, None], seen)

        return score

    def _linear(self, others: Others) -> Scorer:
        weights, means = [], []
        for index, gallery in enumerate(self.galleries):
            scores = [(gallery.scores(posts.views[index]), posts.subject) for posts in others]
            mated = np.concatenate([table.own(name) for table, name in scores])
            nonmated = np.concatenate([table.rest(name).ravel() for table, name in scores])
            known = len(mated) > 0
            means.append(nonmated.mean() if known else 0.0)
            weights.append((mated.mean() - nonmated.mean()) / max(nonmated.var(), 1e-9) if known else 0.0)

        def score(posts: Posts) -> Scores:
            tables = [g.scores(view) for g, view in zip(self.galleries, posts.views, strict=True)]
            common = sorted(set.intersection(*(set(t.identities.tolist()) for t in tables)))
            total = np.zeros((len(posts), len(common)))
            for table, weight, mean in zip(tables, weights, means, strict=True):
                columns = np.searchsorted(table.identities, common)
                total += weight * (table.values[:, columns] - mean) * table.acquired[:, None]
            return Scores(np.array(common), total, np.any([t.acquired for t in tables], axis=0))

        return score


def _features(galleries: list[Gallery], posts: Posts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Identities [I] that all systems enrolled; float [N, I, 2 K] z and z squared of K systems, 0 where one finds no face;
    whether any finds one, bool [N]."""
    tables = [g.scores(view).standardized() for g, view in zip(galleries, posts.views, strict=True)]
    names = np.array(sorted(set.intersection(*(set(t.identities.tolist()) for t in tables))))
    z = np.stack([t.values[:, np.searchsorted(t.identities, names)] for t in tables], axis=2)
    return names, np.concatenate((z, z**2), axis=2), np.any([t.acquired for t in tables], axis=0)
