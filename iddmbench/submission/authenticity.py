"""Are a bundle's images what they claim to be: new images of that subject? Copies, and images of nobody in particular.

Limits were set on real runs of the embedded base (docs/leaderboard.md has the figures). An undefended model memorizes: outputs
come within 10 to 16 of 256 bits of a reference photo, while a photo that was re-coded, blurred or brightened mostly stays
within 8 of itself. So one output near a reference proves nothing, several do; one that near to a photo which no model has seen
is a copy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from iddmbench.faces.detect import YuNet
from iddmbench.linking.aggregate import Group
from iddmbench.photos.references import face_square, resize
from iddmbench.seeds import Seeds
from iddmbench.submission.images import distances, hashes, is_flat, perceptual_hash
from iddmbench.submission.schema import CellFacts
from iddmbench.types import FaceData, Photo

COPY = 8
"""Bits of 256 within which an image is a photo, re-coded."""
TWIN = 16
"""Bits within which images of two subjects are one image; honest ones differ by 64 and more."""
SAME = 2
"""Bits within which an image is another submission's, re-coded; IDDM at 0.5 and, with another surrogate, at 1 differ by 16."""
SHARE = 0.05
"""Share of a condition's images that may come so near by chance or memorization."""
LEAST_DEPENDENCE = 0.1
"""Of the undefended model's; IDDM at strength 1 keeps 0.8, the un-personalized model 0.04."""
PERMUTATIONS = 2000


@dataclass(frozen=True)
class Posted:
    """The images of one cell, as hashes: bool [N, 256], and which show nothing, bool [N]."""

    cell: CellFacts
    bits: np.ndarray
    flat: np.ndarray

    @classmethod
    def of(cls, cell: CellFacts, images: np.ndarray) -> "Posted":
        return cls(cell, hashes(images), np.array([is_flat(x) for x in images], dtype=bool))

    @property
    def key(self) -> tuple[str, int]:
        return self.cell.subject, self.cell.seed


def copies_of_photos(posted: Sequence[Posted], data: FaceData, side: int) -> list[str]:
    """What is wrong, one line per condition: images that are photos of the dataset. Photos are compared whole, cut to the face
    as references are, and mirrored."""
    own, unseen, public = _dataset_hashes(data, side)
    problems = []
    for title, cells in by_condition(posted):
        near = total = 0
        for one in cells:
            strangers = np.concatenate([public, *(h for n, h in {**_others(own, one), **unseen}.items() if len(h))])
            hit = _within(one, strangers, COPY)
            if hit.any():
                problems.append(
                    f"{title}: image {int(np.argmax(hit))} of {one.cell.subject} is a photo from the dataset"
                )
                break
            near, total = near + int(_within(one, own[one.cell.subject], COPY).sum()), total + len(one.bits)
        else:
            if near > SHARE * total:
                problems.append(f"{title}: {near} of {total} images are the subject's reference photos")
    return problems


def copies_between_subjects(posted: Sequence[Posted]) -> list[str]:
    """Conditions that post one image for several subjects. The un-personalized anchor does not count as one."""
    problems = []
    for title, cells in by_condition(posted):
        if cells[0].cell.defense == "generic":
            continue
        bits = np.concatenate([one.bits[~one.flat] for one in cells])
        who = np.concatenate([np.repeat(one.cell.subject, int((~one.flat).sum())) for one in cells])
        if not len(bits):
            continue
        twin = ((distances(bits, bits) <= TWIN) & (who[:, None] != who[None])).any(1)
        if twin.sum() > SHARE * len(twin):
            problems.append(f"{title}: {int(twin.sum())} of {len(twin)} images are used for several subjects")
    return problems


@dataclass(frozen=True)
class Known:
    """An accepted submission's images, as hashes.

    Attributes:
        cells: "subject/seed" -> bool [N, 256], one per condition.
    """

    defense: str
    track: str
    cells: Mapping[str, Sequence[np.ndarray]]
    authors: tuple[str, ...] = ()

    def by(self, authors: Sequence[str]) -> bool:
        """Whether it has the same authors; of one that names none nobody can say."""
        return bool(self.authors) and {a.casefold() for a in self.authors} == {a.casefold() for a in authors}


def copies_of_submissions(
    posted: Sequence[Posted], undefended: Mapping[tuple[str, int], np.ndarray], others: Mapping[str, Known]
) -> list[str]:
    """Conditions whose images are another submission's.

    All submissions share prompts and noise, so weak defenses resemble the undefended model and with it each other: only images
    count that are more than twice COPY away from the undefended one.

    Args:
        undefended: (subject, seed) -> bool [N, 256] of the trusted undefended model.
        others: by the submissions' names.
    """
    problems = []
    for title, cells in by_condition(posted):
        if cells[0].cell.strength is None:
            continue
        for name, known in others.items():
            same = total = 0
            for one in cells:
                plain = undefended.get(one.key)
                changed = ~one.flat
                if plain is not None and plain.shape == one.bits.shape:
                    changed &= (one.bits != plain).sum(1) > 2 * COPY
                total += int(changed.sum())
                theirs = known.cells.get(f"{one.cell.subject}/{one.cell.seed}", [])
                if len(theirs):
                    same += int((changed & (distances(one.bits, np.concatenate(theirs)) <= SAME).any(1)).sum())
            if same > max(SHARE * total, 1):
                problems.append(f"{title}: {same} of {total} images are those of submission '{name}'")
    return problems


def flat_images(posted: Sequence[Posted]) -> list[str]:
    problems = []
    for title, cells in by_condition(posted):
        if count := sum(int(one.flat.sum()) for one in cells):
            problems.append(f"{title}: {count} of {sum(len(one.flat) for one in cells)} images are blank")
    return problems


@dataclass(frozen=True)
class Dependence:
    """How much a condition's images depend on the subject.

    Attributes:
        value: mean closeness of features to the subject's own references, less what subject and references have in general
            (doubly centred), in units of cosine. 0: the images could be anybody's.
        p: share of random assignments of subjects that reach it (permutation test).
    """

    value: float
    p: float


def dependence(group: Group, references: Mapping[str, np.ndarray], seed: int = 0) -> Dependence:
    """Args:
    group: a condition with at least two subjects; references: subject -> unit features float [M, D].
    """
    names = sorted(group.cells)
    features = [np.concatenate([s.utility.features for s in group.cells[n]]) for n in names]
    features = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in features]
    table = np.array([[float((f @ references[m].T).mean()) for m in names] for f in features])
    table = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    rng = Seeds(seed).child("dependence", group.label).numpy()
    value = float(np.trace(table) / len(names))
    rows = np.arange(len(names))
    drawn = np.array([table[rows, rng.permutation(len(names))].mean() for _ in range(PERMUTATIONS)])
    return Dependence(value, float((1 + (drawn >= value - 1e-12).sum()) / (1 + PERMUTATIONS)))


def by_condition(posted: Sequence[Posted]) -> list[tuple[str, list[Posted]]]:
    found: dict[tuple[str, float | None], list[Posted]] = {}
    for one in posted:
        found.setdefault((one.cell.defense, one.cell.strength), []).append(one)
    return [(title(*key), cells) for key, cells in found.items()]


def title(defense: str, strength: float | None) -> str:
    return defense if strength is None else f"{defense} at strength {strength:g}"


def _within(one: Posted, known: np.ndarray, bits: int) -> np.ndarray:
    if not len(known):
        return np.zeros(len(one.bits), dtype=bool)
    return (distances(one.bits, known) <= bits).any(1) & ~one.flat


def _others(own: dict[str, np.ndarray], one: Posted) -> dict[str, np.ndarray]:
    return {f"references of {name}": bits for name, bits in own.items() if name != one.cell.subject}


FRAMES = (1.2, 1.6)
"""How bases cut references (`Recipe.frame`)."""
_HASHED: dict[tuple[str, int], tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]] = {}


def _dataset_hashes(data: FaceData, side: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """References by subject, other photos by subject, public photos; made once per dataset."""
    key = data.fingerprint, side
    if key not in _HASHED:
        _HASHED[key] = (
            {s.name: _photo_hashes(s.references, side) for s in data.subjects},
            {s.name: _photo_hashes((*s.enrolment, *s.surrogate), side) for s in data.subjects},
            _photo_hashes([p for person in data.public for p in person.photos], side),
        )
    return _HASHED[key]


def _photo_hashes(photos: Sequence[Photo], side: int) -> np.ndarray:
    """Whole photos, then squares; each also mirrored. One photo is in memory at a time."""
    detector, whole, squares = YuNet(), list[np.ndarray](), list[np.ndarray]()
    for photo in photos:
        image = photo.image
        faces = detector.detect([image])
        cut = [resize(face_square(image, faces.boxes[0], f), side) for f in FRAMES] if faces.found[0] else []
        whole += [perceptual_hash(v) for v in (image, image[:, ::-1])]
        squares += [perceptual_hash(v) for x in cut for v in (x, x[:, ::-1])]
    return np.stack(whole + squares) if whole else np.zeros((0, 256), bool)
