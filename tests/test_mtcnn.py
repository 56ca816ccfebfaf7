"""The detector mtcnn, against facenet-pytorch's own class and against YuNet, and behind attackers' names."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from iddmbench.adaptive import parse
from iddmbench.attacker import build_attacker, split_detector
from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError
from iddmbench.faces import mtcnn
from iddmbench.faces.detect import YuNet, framed
from iddmbench.faces.mtcnn import MTCNN


@pytest.fixture(scope="module")
def package():
    return pytest.importorskip("facenet_pytorch", reason='pip install "iddmbench[facenet]"')


@pytest.fixture(scope="module")
def detector(package) -> MTCNN:
    return MTCNN()


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [photo(person, index).image for person in range(1, 41, 2) for index in (1, 6)]


def square(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image[10:102], (64, 64), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("shown", [lambda image: image, square], ids=["photos", "64 x 64"])
def test_it_finds_the_faces_that_yunet_finds(detector: MTCNN, photos: list[np.ndarray], shown) -> None:
    images = [shown(image) for image in photos]
    faces, other = detector.detect(images), YuNet().detect(images)
    assert faces.found.all() and (faces.count == 1).all() and (faces.score >= 0.7).all()
    assert faces.boxes.dtype == faces.landmarks.dtype == faces.score.dtype == np.float32
    # point by point, in units of the eyes' distance: the order is the same, and the points are
    eyes = np.linalg.norm(other.landmarks[:, 0] - other.landmarks[:, 1], axis=1)
    away = np.linalg.norm(faces.landmarks - other.landmarks, axis=2) / eyes[:, None]
    assert away.mean() < 0.13 and away.max() < 0.7
    start, size = np.maximum(faces.boxes[:, :2], other.boxes[:, :2]), faces.boxes[:, 2:]
    end = np.minimum(faces.boxes[:, :2] + size, other.boxes[:, :2] + other.boxes[:, 2:])
    common = (end - start).clip(0).prod(1)
    assert (common / (size.prod(1) + other.boxes[:, 2:].prod(1) - common)).min() > 0.4


def test_it_is_the_package_s_own_detector(detector: MTCNN, package, photos: list[np.ndarray]) -> None:
    theirs = package.MTCNN(keep_all=True, device="cpu")
    for image in photos[:8]:
        padded, original = framed(image, 0.25, 160, 640)
        boxes, scores, landmarks = theirs.detect(padded, landmarks=True)
        face = detector.detect([image])
        np.testing.assert_allclose(face.landmarks[0], original(np.array(landmarks[0], float)), atol=1e-3)
        np.testing.assert_allclose(face.boxes[0, :2], original(np.array(boxes[0][:2], float)), atol=1e-3)
        assert face.score[0] == pytest.approx(float(scores[0]), abs=1e-5)


def test_no_face_on_blank_noise_and_shuffled_tiles(detector: MTCNN, photos: list[np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    pictures = [np.full((64, 64, 3), value, np.uint8) for value in (0, 127, 255)]
    pictures += [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (64, 112, 256)]
    pictures += [np.zeros(shape, np.uint8) for shape in ((1, 1, 3), (1, 5000, 3), (2000, 2, 3))]
    for image in photos[:5]:
        tiles = [square(image)[r : r + 16, c : c + 16] for r in range(0, 64, 16) for c in range(0, 64, 16)]
        order = rng.permutation(16)
        pictures.append(np.vstack([np.hstack([tiles[i] for i in order[r : r + 4]]) for r in range(0, 16, 4)]))
    faces = detector.detect(pictures)
    assert not faces.found.any() and np.isnan(faces.landmarks).all() and len(detector.detect([])) == 0


def test_an_image_does_not_depend_on_its_neighbors(detector: MTCNN, photos: list[np.ndarray]) -> None:
    together = detector.detect([photos[0], np.zeros((30, 20, 3), np.uint8), photos[1][..., 0]])
    assert together.found.tolist() == [True, False, True]
    for row, image in ((0, photos[0]), (2, photos[1])):
        assert np.array_equal(together.landmarks[row], detector.detect([image]).landmarks[0])


def test_the_largest_of_several_faces_wins(detector: MTCNN, photos: list[np.ndarray]) -> None:
    canvas = np.full((240, 320, 3), 128, np.uint8)
    canvas[60:172, 10:102] = photos[0]
    canvas[8:232, 120:304] = cv2.resize(photos[2], (184, 224), interpolation=cv2.INTER_CUBIC)
    faces = detector.detect([canvas])
    assert faces.count[0] == 2 and faces.landmarks[0, :, 0].min() > 120


def test_settings_are_checked_and_enter_the_fingerprint(detector: MTCNN) -> None:
    with pytest.raises(ValueError, match="thresholds"):
        MTCNN(thresholds=(0.6, 0.7, 1.5))
    prints = {MTCNN().fingerprint(), detector.fingerprint(), YuNet().fingerprint()}
    assert len(prints | {MTCNN(thresholds=(0.6, 0.7, 0.8)).fingerprint(), MTCNN(smallest=240).fingerprint()}) == 4


def test_its_files_are_not_run(package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"conv1.weight": Evil()}, tmp_path / "pnet.pt")
    monkeypatch.setattr(mtcnn, "wheel_file", lambda package, file: tmp_path / Path(file).name)
    monkeypatch.setattr(mtcnn, "load_networks", mtcnn.load_networks.__wrapped__)
    with pytest.raises(UserError, match=r"pnet\.pt is not a state dict of MTCNN's PNet"):
        MTCNN()
    assert not (tmp_path / "ran").exists()


# ---- behind a name -----------------------------------------------------------------------------------------------------


def test_names_with_a_detector() -> None:
    assert split_detector("sface:mtcnn") == ("sface", "mtcnn") and split_detector("mtcnn") == ("mtcnn", "")
    assert split_detector("onnx:a.onnx,bgr:mtcnn") == ("onnx:a.onnx,bgr", "mtcnn")
    assert split_detector("onnx:a:b.onnx") == ("onnx:a:b.onnx", "")
    for name, bases in (("finetune:sface:mtcnn", ("sface:mtcnn",)), ("fuse:dlib+sface:mtcnn", ("dlib", "sface:mtcnn"))):
        parsed = parse(name)
        assert parsed is not None and parsed.bases == bases
    with pytest.raises(UserError, match="'sface' takes a detector after the colon, not 'mtcn': did you mean 'mtcnn'"):
        build_attacker("sface:mtcn")
    with pytest.raises(UserError, match="'sface' takes a detector after the colon, not 'mtcnn'"):
        build_attacker("sface:mtcnn:mtcnn")
    with pytest.raises(UserError, match="unknown attacker 'mtcnn'"):
        build_attacker("mtcnn:sface")


@pytest.mark.usefixtures("plugins")
def test_an_attacker_with_a_detection_of_its_own() -> None:
    with pytest.raises(UserError, match="'coarse' has its own detector"):
        build_attacker("coarse:mtcnn")


def test_an_attacker_uses_it(detector: MTCNN, photos: list[np.ndarray]) -> None:
    plain, other = build_attacker("sface"), build_attacker("sface:mtcnn")
    assert other.available() is None and other.title == f"{plain.title}, faces by MTCNN" and other.name == "sface"
    assert type(plain).title == plain.title, "an instance's title is not the class's"
    assert plain.fingerprint() != other.fingerprint() == build_attacker("sface:mtcnn").fingerprint()
    found = other.embed(photos[:4]).vectors
    assert np.array_equal(found, plain.embed(photos[:4], detector.detect(photos[:4])).vectors)
    # crops of other landmarks, but of the same people
    assert (np.einsum("nd,nd->n", found, plain.embed(photos[:4]).vectors) > 0.7).all()


@pytest.mark.parametrize("name", ["sface", "lbph", "eigenfaces"])
def test_without_the_package_one_line_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(mtcnn, "version", absent)
    monkeypatch.setattr(mtcnn, "load_networks", mtcnn.load_networks.__wrapped__)
    attacker = build_attacker(f"{name}:mtcnn")
    problem = attacker.available()
    assert problem is not None and 'pip install "iddmbench[facenet]"' in problem and "\n" not in problem
    with pytest.raises(UserError, match="the detector mtcnn needs facenet-pytorch"):
        attacker.embed([photo(1, 1).image])
    assert build_attacker(name).available() is None
