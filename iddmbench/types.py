"""The few frozen types that the stages pass on. A stage imports these, not another stage."""

from dataclasses import dataclass, field

import numpy as np

Image = np.ndarray
"""uint8 [H, W, 3], RGB."""


@dataclass(frozen=True)
class Photo:
    """One photo of one person.

    Attributes:
        name: unique within the dataset ("s29/1"), used in keys and reports.
        image: uint8 [H, W, 3], RGB, upright.
    """

    name: str
    image: Image = field(repr=False, compare=False)


@dataclass(frozen=True)
class Subject:
    """A person who authorizes a personalized model.

    Attributes:
        name: identity label, unique in the dataset.
        references: the photos that personalize the model.
        enrolment: the linker's gallery photos; no defense and no model ever sees them.
        surrogate: extra clean photos that data-side defenses may use.
    """

    name: str
    references: tuple[Photo, ...]
    enrolment: tuple[Photo, ...]
    surrogate: tuple[Photo, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """A photo that a dataset left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class FaceData:
    """A dataset as the protocol sees it (docs/protocol.md).

    Attributes:
        name: dataset name.
        subjects: the people under test.
        public: identity -> photos of people who are no subjects: distractors of the gallery, impostors that calibrate
            each attacker's threshold, and (ORL) what the embedded base model was trained on.
        skipped: what was left out, and why.
        fingerprint: SHA-256 over every name and pixel that is used, so that a result says which photos it came from.
    """

    name: str
    subjects: tuple[Subject, ...]
    public: dict[str, tuple[Photo, ...]]
    skipped: tuple[Skipped, ...] = ()
    fingerprint: str = ""


@dataclass(frozen=True)
class Embeddings:
    """What a face-recognition system made of N images.

    Attributes:
        vectors: float32 [N, D], each row of unit length; zeros where not acquired.
        acquired: bool [N]; False where no face was found (failure to acquire).
    """

    vectors: np.ndarray
    acquired: np.ndarray

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.shape[0] != self.acquired.shape[0]:
            raise ValueError(f"vectors {self.vectors.shape} and acquired {self.acquired.shape} do not fit together")

    def __len__(self) -> int:
        return len(self.acquired)
