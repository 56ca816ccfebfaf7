"""What each detector finds: photos of ORL, squares and random cuts of them, and pictures without a face.

    python benchmarks/detectors.py

200 photos, five of each person, 92 x 112; their central squares at 64 x 64; 500 cuts of 16 to 92 pixels a side; 253 non-faces
(noise, smooth, flat, shuffled 16-pixel tiles of faces). Distances are those of the landmarks to YuNet's, means in units of the
eyes' distance. Time is one thread's, of a photo and of one enlarged to 512 x 512.
"""

import time

import cv2
import numpy as np
import torch

from iddmbench.datasets.orl import photo
from iddmbench.faces.detect import Detector, Faces, YuNet, forget_faces
from iddmbench.faces.mtcnn import MTCNN


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    photos = [photo(person, index).image for person in range(1, 41) for index in (1, 3, 5, 7, 9)]
    squares = [cv2.resize(image[10:102], (64, 64), interpolation=cv2.INTER_AREA) for image in photos]
    sets = {"ORL": photos, "64 x 64": squares, "cuts": cuts(photos), "non-faces": non_faces(squares)}
    detectors: dict[str, Detector] = {"YuNet": YuNet(), "MTCNN": MTCNN()}
    for border, side in ((0.125, 160), (0.25, 240), (0.25, 320)):
        detectors[f"MTCNN, {border}, {side}"] = MTCNN(border=border, smallest=side)
    truth = [YuNet().detect(photos), YuNet().detect(squares)]
    print(
        f"| detector | {' | '.join(sets)} | distance | at 64 x 64 | ms | ms, 512 x 512 |\n|{'---|' * (len(sets) + 5)}"
    )
    for name, detector in detectors.items():
        found = [detector.detect(images) for images in sets.values()]
        forget_faces()
        start = time.perf_counter()
        detector.detect(photos)
        small = (time.perf_counter() - start) / len(photos)
        large = cv2.resize(photos[0], (512, 512), interpolation=cv2.INTER_CUBIC)
        several = [large] + [large.copy() for _ in range(4)]
        for i, picture in enumerate(several):
            picture[0, 0] = i  # each is another picture, or it would be looked at once
        start = time.perf_counter()
        detector.detect(several)
        times = [1000 * small, 1000 * (time.perf_counter() - start) / 5]
        shares = [f"{faces.found.mean():.3f}" for faces in found]
        away = [f"{distance(own, other):.3f}" for own, other in zip(found[:2], truth, strict=True)]
        print(f"| {' | '.join([name, *shares, *away, *(f'{t:.0f}' for t in times)])} |", flush=True)


def distance(faces: Faces, other: Faces) -> float:
    both = faces.found & other.found
    eyes = np.linalg.norm(other.landmarks[both, 0] - other.landmarks[both, 1], axis=1)
    return float((np.linalg.norm(faces.landmarks[both] - other.landmarks[both], axis=2) / eyes[:, None]).mean())


def cuts(photos: list[np.ndarray]) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    made = []
    for i in range(500):
        image = photos[i % len(photos)]
        height, width = rng.integers(16, 113), rng.integers(16, 93)
        top, left = rng.integers(0, 113 - height), rng.integers(0, 93 - width)
        made.append(image[top : top + height, left : left + width])
    return made


def non_faces(squares: list[np.ndarray]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    made = [np.full((64, 64, 3), value, np.uint8) for value in (0, 127, 255)]
    made += [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (64, 112, 256) for _ in range(30)]
    for side in (64, 112):
        for k in range(30):
            noise = rng.normal(size=(side, side, 3)).astype(np.float32)
            smooth = cv2.GaussianBlur(noise, (0, 0), 3 + k / 4) * 600 + 128
            made.append(smooth.clip(0, 255).astype(np.uint8))
    for image in squares[:100]:
        tiles = [image[r : r + 16, c : c + 16] for r in range(0, 64, 16) for c in range(0, 64, 16)]
        order = rng.permutation(16)
        made.append(np.vstack([np.hstack([tiles[i] for i in order[r : r + 4]]) for r in range(0, 16, 4)]))
    return made


if __name__ == "__main__":
    main()
