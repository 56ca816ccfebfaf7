"""Peak memory and time of `ib.evaluate` by the number of images: `python benchmarks/evaluate_memory.py 1000 10000`.

Each number of images is measured in a separate process, with an empty cache. The images are 64 x 64 PNG files of 20 people
who don't exist: a share (`--faces`) are shifted, noisy photos of them, the others smooth noise without a face. An image with a
face takes about a third of a second on one core, most of it for SER-FIQ; one without takes a fifth of that.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

PEOPLE, SIDE = 20, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", type=int, nargs="+", help="how many images")
    parser.add_argument("--faces", type=float, default=0.02, help="share of the images that show a face")
    parser.add_argument("--one", action="store_true", help="measure in this process")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measured(asked.numbers[0], asked.faces)))
        return
    print("images  seconds  peak MB  bytes per image, over the smallest")
    first = None
    for number in sorted(asked.numbers):
        command = [sys.executable, __file__, str(number), "--faces", str(asked.faces), "--one"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        found = json.loads(done.stdout.splitlines()[-1])
        first = first or (number, found["peak"])
        more = number - first[0]
        each = f"{(found['peak'] - first[1]) / more:.0f}" if more else ""
        print(f"{number:6d}  {found['seconds']:7.0f}  {found['peak'] / 1e6:7.0f}  {each}", flush=True)


def measured(number: int, faces: float) -> dict[str, float]:
    """Seconds and peak resident bytes of this process."""
    import iddmbench as ib
    from iddmbench.faces.detect import forget_faces

    data = ib.load_dataset("synthetic")
    people = data.subjects[:PEOPLE]
    gallery = {p.name: [photo.image for photo in p.enrolment] for p in people}
    with TemporaryDirectory() as place:
        for person in people:
            folder = Path(place, "images", person.name)
            folder.mkdir(parents=True)
            rng = np.random.default_rng(int(person.name[1:]))
            photos = [shrunk(photo.image) for photo in person.references]
            for i in range(number // PEOPLE):
                pixels = a_face(photos[i % len(photos)], rng) if rng.random() < faces else no_face(rng)
                Image.fromarray(pixels).save(folder / f"{i}.png")
        forget_faces()
        start = time.perf_counter()
        with watched() as peak:
            ib.evaluate(Path(place, "images"), gallery, attackers="sface", cache=Path(place, "cache"), threads=1)
        return {"seconds": time.perf_counter() - start, "peak": peak[0]}


@contextmanager
def watched() -> Iterator[list[int]]:
    """The most resident bytes, looked at every 10 ms: the highest that Linux keeps is reset by the harness, stage by stage."""
    peak, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            peak[0] = max(peak[0], pages * os.sysconf("SC_PAGE_SIZE"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def shrunk(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def a_face(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    moved = np.roll(photo, rng.integers(-3, 4, 2), (0, 1)) + rng.normal(0, 4, photo.shape)
    return moved.clip(0, 255).astype(np.uint8)


def no_face(rng: np.random.Generator) -> np.ndarray:
    coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
