"""`threshold:FR`: the plain system with a threshold of its own for each defense."""

from iddmbench.adaptive.base import Adaptive, Scorer
from iddmbench.adaptive.posts import Others


class Threshold(Adaptive):
    """Scores as the plain system does. What is learned is the threshold, as for every adaptive attacker
    (`iddmbench.adaptive.linker`): a defense that lowers all scores lowers those of strangers too."""

    name = "threshold"
    title = "threshold calibrated on the defense's outputs of other people"
    from_others_alone = True

    def learn(self, others: Others) -> Scorer:
        return lambda posts: self.galleries[0].scores(posts.views[0])
