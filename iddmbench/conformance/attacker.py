"""What every attacker has to keep."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch

from iddmbench.attacker import Attacker, NetworkAttacker
from iddmbench.conformance import Skip, require
from iddmbench.datasets.orl import PUBLIC, photo
from iddmbench.errors import UserError
from iddmbench.faces.detect import YuNet
from iddmbench.guards import errors_of
from iddmbench.metrics.identification import rank_k_hit, ranks
from iddmbench.metrics.verification import auc, eer
from iddmbench.nets.face_net import FaceNet
from iddmbench.types import Embeddings

PEOPLE, EACH = (13, 18, 30, 33, 36, 40), 3
"""Nobody whom `eigenfaces` was trained on."""
TOLERANCE = 1e-4
"""Of a unit vector's entries: sums of another batch are taken in another order."""


class AttackerSubject:
    """An attacker under test, with photos of ORL and what it makes of them (computed once).

    Args:
        build: makes it; called twice, as two instances must agree.
        name: what it is registered as.
    """

    def __init__(self, build: Callable[[], Attacker], name: str):
        self.build, self.name = build, name

    @cached_property
    def attacker(self) -> Attacker:
        with errors_of(f"attacker '{self.name}'"):
            made = self.build()
            problem = made.available()
        if problem:
            raise UserError(f"attacker '{self.name}' can't run here: {problem}")
        return made

    @cached_property
    def images(self) -> list[np.ndarray]:
        return [photo(person, 1 + 3 * k).image for person in PEOPLE for k in range(EACH)]

    @cached_property
    def embeddings(self) -> Embeddings:
        return self.attacker.embed(self.images)


def describes_itself(subject: AttackerSubject) -> None:
    attacker = subject.attacker
    for field in ("name", "title", "licence", "source"):
        text = getattr(attacker, field, None)
        require(isinstance(text, str) and text, f"class variable `{field}` must be a text, got {text!r}")
    require(attacker.name == subject.name.partition(":")[0], f"`name` is {attacker.name!r}, but it is {subject.name!r}")
    known = ("cosine", "own")
    require(attacker.similarity in known, f"`similarity` must be one of {known}, got {attacker.similarity!r}")


def shapes_and_norms(subject: AttackerSubject) -> None:
    found, wanted = subject.embeddings, (len(subject.images), subject.attacker.dim)
    require(isinstance(found, Embeddings), f"embed must return Embeddings, got {type(found).__name__}")
    require(found.vectors.shape == wanted, f"vectors must be {wanted} (images, dim), got {found.vectors.shape}")
    require(found.vectors.dtype == np.float32, f"vectors must be float32, got {found.vectors.dtype}")
    require(found.acquired.dtype == bool, f"acquired must be bool, got {found.acquired.dtype}")
    require(np.isfinite(found.vectors).all(), "vectors must be finite")
    require(found.acquired.all(), f"no face found in {np.flatnonzero(~found.acquired).tolist()} of plain portraits")
    off = np.abs(np.linalg.norm(found.vectors, axis=1) - 1).max()
    require(off < 1e-4, f"vectors must have unit length, one is off by {off:.2g}")


def deterministic(subject: AttackerSubject) -> None:
    first, second = (subject.attacker.embed(subject.images[:1]).vectors for _ in range(2))
    require(np.array_equal(first, second), "the same image twice must give the same vector, bit for bit")
    other = subject.build().embed(subject.images[:1]).vectors
    require(np.abs(other - first).max() < TOLERANCE, "another instance must give the same vectors")


def batch_invariant(subject: AttackerSubject) -> None:
    again = subject.attacker.embed([subject.images[3], np.zeros((30, 30, 3), np.uint8), subject.images[1]])
    off = np.abs(again.vectors[[0, 2]] - subject.embeddings.vectors[[3, 1]]).max()
    require(off < TOLERANCE, f"an image's vector must not depend on the others; it moved by {off:.2g}")


def no_face_is_a_masked_row_of_zeros(subject: AttackerSubject) -> None:
    result = subject.attacker.embed([np.full((64, 64, 3), 127, np.uint8), subject.images[0]])
    require(result.acquired.tolist() == [False, True], f"acquired must be False for a gray square: {result.acquired}")
    require(not result.vectors[0].any() and result.vectors[1].any(), "a vector that is not acquired must be zero")
    empty = subject.attacker.embed([])
    require(empty.vectors.shape == (0, subject.attacker.dim), f"no images: {empty.vectors.shape}, not (0, dim)")


def own_photos_match_above_impostors(subject: AttackerSubject) -> None:
    scores = subject.embeddings.vectors @ subject.embeddings.vectors.T
    label = np.repeat(np.arange(len(PEOPLE)), EACH)
    first, second = np.triu_indices(len(label), 1)
    same, pairs = label[first] == label[second], scores[first, second]
    # Modern networks reach 1, classical ones 0.8 to 0.9; guessing gives 0.5.
    area = auc(pairs[same], pairs[~same])
    message = f"pairs of one person score above pairs of two people in {area:.0%} of comparisons"
    require(area >= 0.7, f"{message}; a system that knows faces reaches 70 %")


def forms_of_input_agree(subject: AttackerSubject) -> None:
    attacker, images = subject.attacker, subject.images
    stacked = attacker.embed(np.stack(images[:2])).vectors
    gray = attacker.embed([images[0][..., 0], images[1][..., 0]]).vectors
    require(
        np.abs(stacked - subject.embeddings.vectors[:2]).max() < TOLERANCE, "an array [N, H, W, 3] is a list of images"
    )
    require(np.abs(gray - stacked).max() < TOLERANCE, "a gray image [H, W] stands for three equal channels")


def wrong_input_is_refused(subject: AttackerSubject) -> None:
    images = subject.images
    wrong: list[tuple[str, np.ndarray, type[Exception]]] = [
        ("floats", images[0] / 255.0, TypeError),
        ("16 bits", images[0].astype(np.uint16) * 257, TypeError),
        ("two channels", images[0][..., :2], ValueError),
        ("RGBA", np.dstack([images[0], images[0][..., :1]]), ValueError),
    ]
    for kind, image, expected in wrong:
        try:
            subject.attacker.embed([image])
        except expected:
            continue
        raise AssertionError(f"{kind} must raise {expected.__name__} (iddmbench.faces.images.rgb_images does)")


def the_largest_face_wins(subject: AttackerSubject) -> None:
    """Two faces in one picture: it is taken for the larger one's, whichever side that is on."""
    small = photo(3, 1).image[8:104:2, 6:90:2]
    large = photo(36, 1).image
    canvas = np.full((112, 160, 3), 120, np.uint8)
    canvas[:, 60:152], canvas[32 : 32 + small.shape[0], 5 : 5 + small.shape[1]] = large, small
    # Every FR may have a detector of its own; without two faces seen by the shared one the check says nothing.
    if YuNet().detect([canvas]).count[0] < 2:
        raise Skip("the shared detector sees one face only")
    vectors = subject.attacker.embed([canvas, large, photo(3, 1).image]).vectors
    require(vectors[0] @ vectors[1] > vectors[0] @ vectors[2], "of several faces the largest must be used")


def many_images_in_bounded_batches(subject: AttackerSubject) -> None:
    """More images than one batch, of several sizes."""
    images = [subject.images[i % 3][: 112 - i % 5] for i in range(70)]
    found = subject.attacker.embed(images)
    require(len(found) == 70, f"70 images gave {len(found)} rows")
    for first, later in ((0, 15), (1, 61)):
        same = np.abs(found.vectors[first] - found.vectors[later]).max() < TOLERANCE
        require(same or not np.array_equal(images[first], images[later]), "equal images in one call must agree")


def fingerprint_is_stable(subject: AttackerSubject) -> None:
    first = subject.attacker.fingerprint()
    require(isinstance(first, str) and len(first) == 64, f"fingerprint must be 64 hex digits, got {first!r}")
    require(set(first) <= set("0123456789abcdef"), f"fingerprint must be 64 hex digits, got {first!r}")
    require(first == subject.build().fingerprint(), "two instances must have one fingerprint")


def known_faces_are_used(subject: AttackerSubject) -> None:
    attacker = subject.attacker
    detector = attacker.detector if isinstance(attacker, NetworkAttacker) else YuNet()
    faces = detector.detect(subject.images[:2])
    off = np.abs(attacker.embed(subject.images[:2], faces).vectors - subject.embeddings.vectors[:2]).max()
    require(off < TOLERANCE, f"faces of its detector must give the same vectors; they moved by {off:.2g}")
    if isinstance(attacker, NetworkAttacker):
        try:
            attacker.embed(subject.images[:3], faces)
        except ValueError:
            return
        raise AssertionError("3 images with the faces of 2 must raise ValueError")


def gradient_flows_if_differentiable(subject: AttackerSubject) -> None:
    attacker = subject.attacker
    if not attacker.differentiable:
        try:
            attacker.network()
        except UserError:
            raise Skip("it does not declare that it is differentiable") from None
        raise AssertionError("`differentiable` is False, so `network()` must raise UserError")
    network = attacker.network()
    require(isinstance(network, FaceNet) and network.dim == attacker.dim, "`network()` must be a FaceNet of `dim`")
    crops = torch.rand(2, 3, network.size, network.size, generator=torch.Generator().manual_seed(0)).requires_grad_(
        True
    )
    # Along a random direction: single entries of a sound network may be constant, as after a ReLU.
    direction = torch.randn(network.dim, generator=torch.Generator().manual_seed(1))
    (network(crops) @ direction).sum().backward()
    gradient = crops.grad
    require(gradient is not None and bool(torch.isfinite(gradient).all()), "the gradient must be finite")
    require(gradient is not None and float(gradient.abs().max()) > 0, "the gradient must not vanish")


def figures(subject: AttackerSubject) -> str:
    """How well it recognizes, in one line: EER and rank 1 on ORL's public people whom it was not trained on.

    Five photos of each: every pair is compared for the EER; the mean of the first two is enrolled for rank 1, the others are
    looked for.
    """
    people = [p for p in PUBLIC if not subject.attacker.trained_on & {("orl", f"s{p}/{k}") for k in range(1, 11)}]
    found = subject.attacker.embed([photo(p, k).image for p in people for k in range(1, 6)])
    label, shot = np.repeat(people, 5), np.tile(np.arange(5), len(people))
    vectors, label, shot = found.vectors[found.acquired], label[found.acquired], shot[found.acquired]
    first, second = np.triu_indices(len(label), 1)
    pairs, same = (vectors @ vectors.T)[first, second], label[first] == label[second]
    enrolled = shot < 2
    probes = ~enrolled & np.isin(label, label[enrolled])
    hits = rank_k_hit(ranks(vectors[probes], vectors[enrolled], label[enrolled], label[probes], "mean"))
    return (
        f"EER {eer(pairs[same], pairs[~same]):.1%} over {same.sum():,} mated and {(~same).sum():,} other pairs, "
        f"rank 1 {hits.mean():.1%} of {len(hits)} photos, {len(people)} public people of ORL"
    )


CHECKS: list[Callable[[AttackerSubject], None]] = [
    describes_itself,
    shapes_and_norms,
    deterministic,
    batch_invariant,
    no_face_is_a_masked_row_of_zeros,
    own_photos_match_above_impostors,
    forms_of_input_agree,
    wrong_input_is_refused,
    the_largest_face_wins,
    many_images_in_bounded_batches,
    fingerprint_is_stable,
    known_faces_are_used,
    gradient_flows_if_differentiable,
]
