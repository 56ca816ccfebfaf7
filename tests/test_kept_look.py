"""What is kept besides identity: readings of pixels, and how they are compared."""

import cv2
import numpy as np
import pytest

from iddmbench.datasets.orl import ORL
from iddmbench.faces.detect import YuNet
from iddmbench.faces.look import LOOK, TEMPLATE, compared, look, looks
from iddmbench.metrics.kept import kept_look

POINTS = TEMPLATE * 64
ROW = {name: i for i, name in enumerate(LOOK)}


def face(hair: float = 60, skin: float = 150, backdrop: float = 120, chin: float = 150) -> np.ndarray:
    """A drawing with its landmarks at POINTS: hair on top, a face, corners."""
    image = np.full((64, 64, 3), float(skin))
    image[:8] = hair
    image[54:62, 24:40] = chin
    image[:16, :8] = image[:16, -8:] = backdrop
    return image.astype(np.uint8)


def test_each_reading_sees_its_own_change() -> None:
    plain = look(face(), POINTS)
    for changed, name in ((face(hair=200), "hair"), (face(chin=50), "beard chin"), (face(backdrop=20), "backdrop")):
        moved = np.abs(look(changed, POINTS) - plain)
        assert moved[ROW[name]] > 0.3 and LOOK[int(moved.argmax())] == name
    bright = look((face() * 1.2).astype(np.uint8), POINTS)
    assert bright[0] > plain[0] + 0.1  # exposure changes the first alone
    np.testing.assert_allclose(bright[1:], plain[1:], atol=0.02)
    assert plain[ROW["hair"]] == pytest.approx(60 / 150, abs=0.02)


def test_turned_and_scaled_faces_read_alike() -> None:
    matrix = cv2.getRotationMatrix2D((32, 32), 20, 0.8)
    turned = cv2.warpAffine(face(), matrix, (64, 64), borderMode=cv2.BORDER_REPLICATE)
    points = POINTS @ matrix[:, :2].T + matrix[:, 2]
    one, other = look(face(), POINTS), look(turned, points)
    inner = [ROW[n] for n in ("light", "forehead", "beard lip", "beard chin")]
    np.testing.assert_allclose(one[inner], other[inner], atol=0.08)


def test_colour_is_read_and_constant_in_gray() -> None:
    gray = look(face(), POINTS)
    assert not gray[ROW["skin colour red"] :].any()
    red = face()
    red[..., 0] = np.minimum(red[..., 0] + 40.0, 255)
    assert look(red, POINTS)[ROW["skin colour red"]] > 0.2


def test_what_a_prompt_asks_for_is_not_compared() -> None:
    rows = compared(["a photo of sks person", "a photo of sks person, dark", "sks person, smiling, pale backdrop"])
    assert rows[0].all()
    assert [LOOK[i] for i in np.flatnonzero(~rows[1])] == ["light"]
    assert [LOOK[i] for i in np.flatnonzero(~rows[2])] == ["beard lip", "backdrop"]


def test_kept_look_by_hand() -> None:
    public = np.array([[1.0, 0, 5], [-1, 0, 5], [0, 2, 5], [0, -2, 5]])  # spread 0.707, 1.414; the third says nothing
    references = np.array([[0.5, 1.0, 5]])  # standardized (0.707, 0.707)
    own = np.array([[1.0, 2.0, 9], [-0.5, -1.0, 0], [0.5, -1, 5], [np.nan, np.nan, np.nan]])
    every = np.ones(own.shape, bool)
    np.testing.assert_allclose(kept_look(own, references, public, every), [1, -1, 0, 0], atol=1e-9)
    first = every.copy()
    first[:, 1] = False  # by the first reading alone
    np.testing.assert_allclose(kept_look(own, references, public, first), [1, -1, 1, 0], atol=1e-9)
    assert not kept_look(own, references, public, ~every).any()  # nothing is compared
    for lost in (references * np.nan, references[:0]):
        assert np.isnan(kept_look(own, lost, public, every)).all()
    assert np.isnan(kept_look(own, references, public[:2], every)).all()


def test_real_photos_of_a_person_are_nearer_than_a_strangers() -> None:
    """ORL's public people, whom no table reports: two photos of each against the mean of two others."""
    people = ORL().load().public[:14]
    images = [[photo.image for photo in person.photos[:4]] for person in people]
    detector = YuNet()
    read = [looks(np.stack(several), detector.detect(several)) for several in images]
    public, every = np.concatenate(read), np.ones((2, len(LOOK)), bool)
    table = np.array([[np.nanmean(kept_look(a[:2], b[2:], public, every)) for b in read] for a in read])
    own, others = np.diag(table), table[~np.eye(len(table), dtype=bool)]
    assert own.mean() > 0.5 and abs(others.mean()) < 0.15
    assert (own > np.sort(table - 2 * np.eye(len(table)), axis=1)[:, -1]).mean() > 0.6
