"""`purify:FR`: purifies the images before recognition, with the purifier that works best on other people's."""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator

from iddmbench.adaptive.base import Adaptive, AdaptiveOptions, Scorer
from iddmbench.adaptive.changed import Changed
from iddmbench.adaptive.held_out import Trial, best
from iddmbench.adaptive.posts import Others
from iddmbench.attacker import Attacker
from iddmbench.models.base import BaseModel
from iddmbench.options import Names, is_options, parts
from iddmbench.perturb.purifier import TRIED, Purifier, is_purifier, purifier
from iddmbench.seeds import Seeds
from iddmbench.types import Image

CODE = 1
"""Raised when a purifier's result changes."""


class Purified(Changed):
    """An attacker that purifies what it is shown; images of one size only, as a model's outputs are."""

    def __init__(self, attacker: Attacker, change: Purifier, base: BaseModel):
        super().__init__(attacker, f"{change.label}:{attacker.name}", f"{attacker.title} after {change.description}")
        self.change, self.base = change, base

    def changed(self, images: list[Image]) -> list[Image]:
        return list(self.change(np.stack(images), Seeds(0).child("attacker"), self.base))

    def fingerprint(self) -> str:
        parts = [self.attacker.fingerprint(), self.change.key, CODE]
        parts.append(self.base.fingerprint if self.change.needs_base else "")
        if self.change.needs_base and self.base.precision != "fp32":
            parts.append(self.base.precision)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class PurifyOptions(AdaptiveOptions):
    purifiers: Annotated[Names, Field(min_length=1)] = Field(
        TRIED, description="purifiers to choose from, including none (list purifiers)"
    )

    @field_validator("purifiers")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(purifier(name).label for name in names)


class Purify(Adaptive):
    """Tries every purifier of the option on other people's posts, none at all included, and uses the one under
    which most of them are linked. `purify:jpeg-75:dlib` tries one."""

    name = "purify"
    title = "purified first: JPEG, blur, resize, total variation or SDEdit, chosen on other people"
    from_others_alone = True
    Options = PurifyOptions

    @classmethod
    def read_argument(cls, rest: str) -> tuple[dict[str, Any], str]:
        """ "jpeg-75,blur-1:dlib" too, and "soft:radius=2:dlib" of a purifier's own options."""
        first, colon, after = rest.partition(":")
        if is_options(rest) or not colon or not all(map(is_purifier, parts(first))):
            return super().read_argument(rest)
        if is_options(after):
            options, _, after = after.partition(":")
            first = f"{first}:{options}"
        return {"purifiers": first}, after

    @classmethod
    def write_argument(cls, options: Any) -> str:
        return "" if options.purifiers == TRIED else ",".join(options.purifiers)

    def views(self, attackers: Sequence[Attacker], base: BaseModel) -> list[Attacker]:
        (attacker,) = attackers
        return [attacker, *(Purified(attacker, purifier(name), base) for name in self.options.purifiers)]

    def learn(self, others: Others) -> Scorer:
        count = len(next(iter(others)).views)
        scorers = [self._through(index) for index in range(count)]
        return scorers[best([[Trial.of(scorer(posts), posts.subject) for posts in others] for scorer in scorers])]

    def _through(self, index: int) -> Scorer:
        return lambda posts: self.galleries[0].scores(posts.views[index])
