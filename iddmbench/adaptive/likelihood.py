"""`likelihood:FR`: asks what scores the right person gets under this defense, instead of taking the highest."""

import numpy as np

from iddmbench.adaptive.base import Adaptive, Scorer
from iddmbench.adaptive.posts import Others, Posts, Scores


class Likelihood(Adaptive):
    """Log-likelihood ratio of mated and non-mated scores, each a normal distribution fitted on other people's posts.

    Scores are standardized over the gallery for each post first. A defense that pushes the right person's score below
    everybody's is linked by just that: "no leak" is a score that looks like a stranger's, not a low one.
    """

    name = "likelihood"
    title = "likelihood ratio of scores, learned on the defense's outputs of other people"
    from_others_alone = True

    def learn(self, others: Others) -> Scorer:
        own, rest = [], []
        for posts in others:
            scores = self._standardized(posts)
            own.append(scores.own(posts.subject))
            rest.append(scores.rest(posts.subject).ravel())
        mated, nonmated = np.concatenate(own), np.concatenate(rest)
        if len(mated) < 2:
            return self._standardized
        (m_mean, m_std), (n_mean, n_std) = _normal(mated), _normal(nonmated)

        def score(posts: Posts) -> Scores:
            plain = self._standardized(posts)
            z = plain.values
            ratio = ((z - n_mean) / n_std) ** 2 - ((z - m_mean) / m_std) ** 2 + 2 * np.log(n_std / m_std)
            return Scores(plain.identities, ratio / 2 * plain.acquired[:, None], plain.acquired)

        return score

    def _standardized(self, posts: Posts) -> Scores:
        return self.galleries[0].scores(posts.views[0]).standardized()


def _normal(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), max(float(values.std(ddof=1)), 1e-3)
