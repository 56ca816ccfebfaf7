"""A face in somebody else's picture, and the keyed defense that starts from there."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from iddmbench.conformance.defense import workbench
from iddmbench.datasets.orl import photo
from iddmbench.defense import Workbench, configure
from iddmbench.defenses.iddm_keyed import IDDMKeyed, KeyedDecoupling
from iddmbench.errors import UserError
from iddmbench.faces.align import similarity
from iddmbench.faces.detect import YuNet
from iddmbench.faces.surround import inner_face, surrounded
from iddmbench.seeds import Seeds


def faced(person: int, number: int = 1) -> tuple[np.ndarray, np.ndarray]:
    image = photo(person, number).image
    return image, YuNet().detect([image]).landmarks[0]


def test_a_face_in_its_own_picture_is_the_picture() -> None:
    """To two gray levels: nothing is moved, not by a pixel."""
    image, points = faced(29)
    assert np.abs(surrounded(image, points, image, points).astype(int) - image).max() <= 2


def test_the_face_stays_and_what_surrounds_it_is_the_donors() -> None:
    (image, points), (donor, theirs) = faced(29), faced(7)
    made = surrounded(image, points, donor, theirs)
    assert made.shape == image.shape and (made[..., 0] == made[..., 1]).all(), "gray stays gray"
    assert np.abs(YuNet().detect([made]).landmarks[0] - points).max() < 3, "the face is where it was"
    mask = inner_face(points, *image.shape[:2]) > 0
    moved = cv2.warpAffine(
        donor,
        similarity(theirs[None], points)[0],
        image.shape[1::-1],
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    assert np.abs(made.astype(int) - moved)[~mask].mean() < 1, "but for what the seam sends out"
    inside = cv2.erode(mask.astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
    own, donors, new = (
        np.stack([cv2.Sobel(x[..., 0], cv2.CV_32F, *axis)[inside] for axis in ((1, 0), (0, 1))]).ravel()
        for x in (image, moved, made)
    )
    assert np.corrcoef(own, new)[0, 1] > 0.95 > 0.8 > np.corrcoef(donors, new)[0, 1], "the face's gradients are its own"


def test_a_face_outside_the_picture() -> None:
    (image, points), (donor, theirs) = faced(29), faced(7)
    assert not inner_face(points + 500, *image.shape[:2]).any()
    assert surrounded(image, points + 500, donor, theirs).shape == image.shape


def test_the_optimization_starts_in_the_donors_surroundings(references: np.ndarray, bench: Workbench) -> None:
    """The key draws the donor, among those who resemble the subject; the subject's templates are of the references."""

    def part(bench: Workbench = bench, **options: object) -> KeyedDecoupling:
        return KeyedDecoupling(IDDMKeyed(surrogate=("sface",), **options), references, bench)

    plain, moved = part(), part(surroundings=True, alike=6)
    assert np.array_equal(plain.photos(), references)
    changed = moved.photos()
    rim = np.abs(changed.astype(int) - references)[:, :8].mean((1, 2, 3))
    assert (rim > 5).all() and np.array_equal(changed, moved.photos())
    assert torch.equal(plain.targets[0].template, moved.targets[0].template)
    assert torch.equal(plain.targets[0].matrices, moved.targets[0].matrices)
    torch.testing.assert_close(moved.clean, bench.encode(changed))
    points = bench.detector.detect(list(references)).landmarks
    donors = [moved._portrait(i) for i in moved._alike.tolist()]
    made = [np.array_equal(surrounded(references[0], points[0], *donor), changed[0]) for donor in donors]
    assert sum(made) == 1
    which = made.index(True)
    assert np.array_equal(surrounded(references[1], points[1], *donors[which]), changed[1]), "one donor for the model"
    keys = [workbench(bench.base, declared=None, seeds=Seeds(k).child("defense", "s29")) for k in range(6)]
    assert len({part(key, surroundings=True, alike=6).photos().tobytes() for key in keys}) > 2
    each = {part(key, surroundings=True, alike=6, per="photo").photos()[0].tobytes() for key in keys}
    assert len(each) > 2


def test_a_public_person_without_a_face_is_an_error(references: np.ndarray, bench: Workbench) -> None:
    part = KeyedDecoupling(IDDMKeyed(surrogate=("sface",)), references, bench)
    part.bench = replace(bench, strangers=[np.zeros((112, 92, 3), np.uint8)])
    with pytest.raises(UserError, match="no face was found in a public person's photo"):
        part._portrait(0)


def test_its_preset() -> None:
    made = configure(IDDMKeyed, IDDMKeyed.presets["surroundings"])
    assert made.surroundings and made.alike == 16 and made.surrogates() == ("sface", "dlib", "lbph:part=inner", "gabor")
