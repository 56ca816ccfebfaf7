"""A cell, what it posts, and who personalizes."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from iddmbench.defense import Defense
from iddmbench.results.run_folder import label
from iddmbench.store.cost import Cost
from iddmbench.types import Subject

PROTECTED = "protected references"
"""Title of the photos that a defense protected, among `Outputs.extras`."""


@dataclass(frozen=True)
class Cell:
    """One personalized model of one subject under one defense."""

    subject: Subject
    defense: Defense
    seed: int

    @cached_property
    def label(self) -> str:
        """Folder name of the defense at its strength: "iddm-0.50", "none"."""
        return label(self.defense.name, self.strength)

    @property
    def strength(self) -> float:
        """NaN for an anchor, which has none."""
        return strength_of(self.defense)

    @cached_property
    def name(self) -> str:
        """ "iddm-0.50 s29 seed 0": unique in a run."""
        return f"{self.label} {self.subject.name} seed {self.seed}"


def strength_of(defense: Defense) -> float:
    """NaN for an anchor, which has none."""
    return np.nan if defense.anchor else defense.strength


@dataclass(frozen=True)
class Outputs:
    """What a cell posted.

    images: uint8 [N, S, S, 3], or N objects where given ones differ in size; prompts: N; key: identifies them for what is
    computed on them; extras: images by title; costs: by stage, as measured when it was computed.
    """

    images: np.ndarray
    prompts: list[str]
    key: dict[str, Any]
    extras: dict[str, np.ndarray]
    costs: dict[str, Cost]


@dataclass(frozen=True)
class UnauthorizedTrainer:
    """The unauthorized setting: somebody else personalizes, without the defense, on photos that may be purified first."""

    purify: str = ""

    @classmethod
    def of(cls, threat: str, purify: str) -> "UnauthorizedTrainer | None":
        """Who personalizes in the setting "authorized" (None: the owner) or "unauthorized"."""
        return cls(purify) if threat == "unauthorized" else None
