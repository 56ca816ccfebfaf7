"""`fuse:FR+FR`: score fusion of several systems."""

import numpy as np

from iddmbench.adaptive.base import Adaptive, Scorer
from iddmbench.adaptive.posts import Others, Posts, Scores


class Fuse(Adaptive):
    """A weighted sum of the systems' scores: w = (mean mated - mean non-mated) / non-mated variance of each, learned on
    other people's posts (Fisher's discriminant with a diagonal covariance). A system that finds no face adds nothing."""

    name = "fuse"
    title = "score fusion of several systems, weighted on the defense's outputs of other people"
    several = True

    def learn(self, others: Others) -> Scorer:
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
