"""MTCNN as an alternative to YuNet: facenet-pytorch's three networks, whose weights are inside its wheel."""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from iddmbench.errors import UserError, first_line
from iddmbench.faces.detect import FRAMING, Detector, Faces, framed, largest_faces
from iddmbench.faces.images import rgb_images
from iddmbench.wheel_files import sha256, wheel_file

PACKAGE = "facenet_pytorch"
INSTALL = 'pip install "iddmbench[facenet]"'
STAGES = ("PNet", "RNet", "ONet")


class MTCNN(Detector):
    """MTCNN (Zhang et al., IEEE Signal Processing Letters 23(10), 2016), port by Tim Esler, run by its own `detect_face`.

    Images are framed as for `YuNet`, but enlarged less: from 240 pixels on it takes non-faces for faces.

    `python benchmarks/detectors.py`: shares found in 200 photos of ORL, in their squares at 64 x 64 and in 253 non-faces, and
    the mean distance of the landmarks to YuNet's in units of the eyes' distance:

    | border, working side | ORL | at 64 x 64 | non-faces | distance | at 64 x 64 |
    |---|---|---|---|---|---|
    | 0.125, 160 | 1.00 | 1.00 | 0 | 0.098 | 0.098 |
    | 0.25, 160 (chosen) | 1.00 | 1.00 | 0 | 0.102 | 0.097 |
    | 0.25, 240 | 1.00 | 1.00 | 0.004 | 0.094 | 0.086 |
    | 0.25, 320 | 1.00 | 1.00 | 0.012 | 0.089 | 0.087 |

    Args:
        thresholds: of the three networks' confidences, each in (0, 1); a face passes all three.
        smallest, largest: limits of the working side, in pixels, border included.
        border: width of the border as a share of the longer side.

    Raises UserError if facenet-pytorch is missing or its files are not such networks.
    """

    FACE, FACTOR = 20, 0.709
    """The smallest face in working pixels, and the step of the image pyramid; facenet-pytorch's defaults."""

    def __init__(
        self,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        smallest: int = 160,
        largest: int = 640,
        border: float = 0.25,
    ):
        # with its border even a picture one pixel wide is as wide as the smallest face: `detect_face` fails below
        narrowest = smallest * 2 * border / (1 + 2 * border) if border >= 0 else 0
        if not (all(0 < t < 1 for t in thresholds) and smallest <= largest and narrowest > self.FACE):
            raise ValueError(f"out of range: {thresholds=}, {smallest=}, {largest=}, {border=}")
        self.thresholds, self.smallest, self.largest, self.border = thresholds, smallest, largest, border
        self._networks = load_networks()

    def detect(self, images: Sequence[np.ndarray] | np.ndarray) -> Faces:
        return largest_faces([self._detect(image) for image in rgb_images(images)])

    def fingerprint(self) -> str:
        weights = "-".join(sha256(wheel_file(PACKAGE, file_of(stage)))[:16] for stage in STAGES)
        settings = (*self.thresholds, self.smallest, self.largest, self.border, self.FACE, self.FACTOR, FRAMING)
        return f"mtcnn-{version('facenet-pytorch')}-{weights}-{'-'.join(map(str, settings))}"

    @torch.inference_mode()
    def _detect(self, image: np.ndarray) -> np.ndarray:
        """float32 [faces, 15] in the image's pixels: box, landmarks, score."""
        from facenet_pytorch.models.utils.detect_face import detect_face

        padded, original = framed(image, self.border, self.smallest, self.largest)
        found, points = detect_face(padded, self.FACE, *self._networks, list(self.thresholds), self.FACTOR, "cpu")
        boxes, landmarks = np.asarray(found[0], np.float64), np.asarray(points[0], np.float64)  # of the one image
        if not len(boxes):
            return np.zeros((0, 15), np.float32)
        start, end = original(boxes[:, :2]), original(boxes[:, 2:4])
        rows = np.hstack([start, end - start, original(landmarks).reshape(-1, 10), boxes[:, 4:5]])
        return rows.astype(np.float32)


def file_of(stage: str) -> str:
    return f"data/{stage.lower()}.pt"


@cache
def load_networks() -> tuple[Any, ...]:
    """The three networks, frozen. Their own constructors would read the files as pickles, which may run code."""
    try:
        version("facenet-pytorch")
        import facenet_pytorch
    except (ImportError, PackageNotFoundError) as error:
        raise UserError(f"the detector mtcnn needs facenet-pytorch ({error}): {INSTALL}") from error
    networks = []
    for stage in STAGES:
        path = wheel_file(PACKAGE, file_of(stage))
        network = getattr(facenet_pytorch, stage)(pretrained=False)
        try:
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises half a dozen kinds for damaged files
            reason = first_line(error)
            raise UserError(f"{path} is not a state dict of MTCNN's {stage}: {reason}") from error
        networks.append(network.eval().requires_grad_(False))
    return tuple(networks)
