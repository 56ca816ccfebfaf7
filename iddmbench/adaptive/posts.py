"""What an adaptive attacker learns from and what it is tested on, kept apart by type.

`Adaptive.fit` takes `Others`, which can't be built with the target in it; what it returns (`Fitted`) refuses to score a
subject that it was fitted on. A run holds several seeds of one subject: they share its name, and so are left out together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from iddmbench.types import Embeddings


@dataclass(frozen=True)
class Posts:
    """What one subject's model posted under one defense, as the attacker's systems see it.

    Attributes:
        subject: label of whose model it is, as in the gallery.
        views: embeddings of the same N images, one per view (`Adaptive.views`): by several systems, or purified first.
        prompts: of the images, N; empty where they are not known.
        restored: embeddings of the same images after a network restored them, by the people that it was trained on; empty
            unless the attacker asks for them (`Adaptive.restoration`).
    """

    subject: str
    views: tuple[Embeddings, ...]
    prompts: tuple[str, ...] = ()
    restored: Mapping[frozenset[str], Embeddings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.views or len({len(view) for view in (*self.views, *self.restored.values())}) != 1:
            raise ValueError(f"views of {self.subject} must be of the same images: {[len(v) for v in self.views]}")
        if any(self.subject in people for people in self.restored):
            raise ValueError(f"a network that was trained on {self.subject} can't restore their posts")
        if self.prompts and len(self.prompts) != len(self.views[0]):
            raise ValueError(f"{self.subject}: {len(self.prompts)} prompts of {len(self.views[0])} images")

    def __len__(self) -> int:
        return len(self.views[0])


@dataclass(frozen=True)
class Simulation:
    """What an attacker that runs the defense itself asks for (`Adaptive.simulation`).

    Attributes:
        candidates: people whom it takes into account, the target among them; None: everybody under test.
        keys: models per candidate, each with other random numbers.
        leaked: whether it knows the random numbers of each candidate's own model: an upper bound, no attacker.
    """

    candidates: int | None
    keys: int
    leaked: bool = False


@dataclass(frozen=True)
class Restoration:
    """What an attacker that restores images first asks for (`Adaptive.restoration`): networks that learn to undo the defense,
    from the defended to the undefended images of other people.

    Attributes:
        steps: of training. width: channels of the first level. side: pixels a side at which the correction is computed.
        folds: of people; each network is trained without those of one or two folds. seed: of its random numbers.
    """

    steps: int
    width: int
    side: int
    folds: int
    seed: int


class Others:
    """Posts of people other than the target, whose identities the attacker knows.

    Attributes:
        simulated: what the attacker's own models made, one per candidate and key: the defense under judgement, run on other
            photos of each person, the target included. Empty unless it asks for them (`Adaptive.simulation`).

    Raises ValueError when the target's posts are among them.
    """

    def __init__(self, target: str, posts: Sequence[Posts], simulated: Sequence[Posts] = ()):
        if any(part.subject == target for part in posts):
            raise ValueError(f"posts of the target '{target}' are among those to learn from")
        self.target, self._posts, self.simulated = target, tuple(posts), tuple(simulated)

    @classmethod
    def than(cls, target: str, everyone: Sequence[Posts], simulated: Sequence[Posts] = ()) -> "Others":
        """Everyone's posts but the target's."""
        return cls(target, [part for part in everyone if part.subject != target], simulated)

    def without(self, subject: str) -> "Others":
        """For cross-fitting: those of one further person left out, who takes the target's place."""
        return Others(subject, [part for part in self._posts if part.subject != subject], self.simulated)

    @property
    def subjects(self) -> list[str]:
        return sorted({part.subject for part in self._posts})

    def of(self, subject: str) -> list[Posts]:
        return [part for part in self._posts if part.subject == subject]

    def __iter__(self) -> Iterator[Posts]:
        return iter(self._posts)

    def __len__(self) -> int:
        return len(self._posts)


@dataclass(frozen=True)
class Scores:
    """N posts against I identities, higher is more alike; the scale is the attacker's own.

    Attributes:
        identities: [I], sorted.
        values: float [N, I]; 0 where not acquired.
        acquired: bool [N].
    """

    identities: np.ndarray
    values: np.ndarray
    acquired: np.ndarray

    def own(self, subject: str) -> np.ndarray:
        """float [n]: acquired posts against the subject."""
        return self.values[self.acquired][:, self._column(subject)]

    def rest(self, subject: str) -> np.ndarray:
        """float [n, I - 1]: acquired posts against everybody else."""
        return np.delete(self.values[self.acquired], self._column(subject), axis=1)

    def ranks(self, subject: str) -> np.ndarray:
        """int [n] of acquired posts: 1 + identities with a higher score; ties go to the attacker."""
        return 1 + (self.rest(subject) > self.own(subject)[:, None]).sum(1)

    def standardized(self) -> "Scores":
        """Each post's scores over the gallery with mean 0 and deviation 1 (t-norm): on one scale, whatever gave them."""
        return self._standardized

    @cached_property
    def _standardized(self) -> "Scores":
        spread = np.maximum(self.values.std(1, keepdims=True), 1e-12)
        values = (self.values - self.values.mean(1, keepdims=True)) / spread
        return Scores(self.identities, values * self.acquired[:, None], self.acquired)

    def _column(self, subject: str) -> int:
        (column,) = np.flatnonzero(self.identities == subject)
        return int(column)


@dataclass(frozen=True)
class Fitted:
    """An attacker that has learned. `scores` raises ValueError for a subject that it learned on.

    Attributes:
        trained_on: names of the subjects. score: what it learned.
        held_out: scores of each of them, and their name, by an attacker that learned on the rest; None where that was not
            computed on the way.
    """

    trained_on: frozenset[str]
    score: Callable[[Posts], Scores]
    held_out: tuple[tuple[Scores, str], ...] | None = None

    def scores(self, posts: Posts) -> Scores:
        if posts.subject in self.trained_on:
            raise ValueError(f"'{posts.subject}' was used for training, so it can't be tested")
        return self.score(posts)
