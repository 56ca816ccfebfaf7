"""`inverse:FR`: restores the image by a network that learned to undo the defense on other people, before recognition."""

import hashlib
import json
from typing import Any

from pydantic import Field, field_validator

from iddmbench.adaptive.base import AdaptiveOptions, Scorer
from iddmbench.adaptive.changed import Changed
from iddmbench.adaptive.held_out import Choosing
from iddmbench.adaptive.posts import Others, Posts, Restoration, Scores
from iddmbench.attacker import Attacker
from iddmbench.nets.restorer import CODE, Restorer
from iddmbench.types import Image


class Restored(Changed):
    """An attacker that restores what it is shown. key: identifies the network by what it was trained on, and how."""

    def __init__(self, attacker: Attacker, network: Restorer, key: str):
        super().__init__(attacker, f"restored:{attacker.name}", f"{attacker.title} after restoration")
        self.network_, self.key = network, key

    def changed(self, images: list[Image]) -> list[Image]:
        return [self.network_.restore(image) for image in images]

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps([self.attacker.fingerprint(), "restored", self.key]).encode()).hexdigest()


class InverseOptions(AdaptiveOptions):
    steps: int = Field(300, ge=1, le=100_000, description="training steps of each network")
    width: int = Field(16, ge=4, le=256, description="channels of the network's first level")
    side: int = Field(
        64, ge=32, le=512, description="pixels a side at which the correction is computed, a multiple of 8"
    )
    folds: int = Field(4, ge=3, le=16, description="of people; a network is trained without those of one or two folds")
    seed: int = Field(0, ge=0, description="of the network's weights and batches")

    @field_validator("side")
    @classmethod
    def _divisible(cls, value: int) -> int:
        if value % 8:
            raise ValueError("give a multiple of 8")
        return value


class Inverse(Choosing):
    """A reversibility attack by image translation: a small U-Net, trained from other people's defended images to the
    undefended ones of the same prompt and noise, or to their nearest reference where the run has none
    (`iddmbench.cells.restore`). The restored image is compared with photos as by the plain system.

    A post is restored by the network that was trained on the most people among those whom the attacker may learn from, so never
    on the person under attack. Whether restoring helps at all is chosen on other people, as `purify` does.
    """

    name = "inverse"
    title = "restored first, by a network that learned to undo the defense on other people"
    from_others_alone = True
    Options = InverseOptions

    def restoration(self) -> Restoration:
        o = self.options
        return Restoration(o.steps, o.width, o.side, o.folds, o.seed)

    def ways(self, others: Others) -> list[Scorer]:
        known = frozenset(others.subjects)
        return [self._scorer(known, restored=False), self._scorer(known, restored=True)]

    def key(self) -> dict[str, Any]:
        return {**super().key(), "network": CODE}

    def _scorer(self, known: frozenset[str], restored: bool) -> Scorer:
        """known: whom the attacker may learn from."""

        def score(posts: Posts) -> Scores:
            fitting = [people for people in posts.restored if people <= known] if restored else []
            widest = max(fitting, key=lambda people: (len(people), sorted(people)), default=None)
            view = posts.views[0] if widest is None else posts.restored[widest]
            # Standardized: the threshold is calibrated over fits that choose either way.
            return self.galleries[0].scores(view).standardized()

        return score
