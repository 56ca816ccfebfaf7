"""`cross-post:FR`: links posts to each other, without any photo of a person."""

import numpy as np

from iddmbench.adaptive.base import Adaptive, Scorer, unit
from iddmbench.adaptive.posts import Others, Posts, Scores


class CrossPost(Adaptive):
    """The gallery holds accounts, not people: of each model its posts' mean. A post is compared with the mean of its own
    model's other posts and with every other model's. Chance at rank 1 is one in the number of subjects of the run."""

    name = "cross-post"
    title = "links two posts of one model to each other; no photo enrolled"
    links_person = False
    from_others_alone = True

    def learn(self, others: Others) -> Scorer:
        sums: dict[str, np.ndarray] = {}
        for posts in others:
            view = posts.views[0]
            sums[posts.subject] = sums.get(posts.subject, 0) + view.vectors[view.acquired].astype(float).sum(0)

        def score(posts: Posts) -> Scores:
            view = posts.views[0]
            vectors = view.vectors.astype(float) * view.acquired[:, None]
            identities = np.array(sorted({*sums, posts.subject}))
            values = np.zeros((len(posts), len(identities)))
            for column, name in enumerate(identities):
                if name == posts.subject:
                    values[:, column] = (vectors * unit(vectors.sum(0) - vectors)).sum(1)  # each post left out itself
                else:
                    values[:, column] = vectors @ unit(sums[name])
            return Scores(identities, values, view.acquired)

        return score
