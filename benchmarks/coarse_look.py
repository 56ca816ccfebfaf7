"""What YuNet's coarse first look at large pictures costs in recognition and saves in time.

    python benchmarks/coarse_look.py [--people 160]      # needs iddmbench[synthetic] and random-face

Two generated photos of 512 x 512 of each person, the second in another pose: TAR at two FARs, the photo pairs that only one
way links (two-sided sign test), and the processor time to detect, align and embed an image.
"""

import argparse
import time

import numpy as np
from scipy.stats import binomtest

from iddmbench.attacker import build_attacker
from iddmbench.faces import detect
from iddmbench.seeds import Seeds
from iddmbench.synthetic.generator import LAYERS, Generator

POSE = 3
"""Layers from another style in the second photo."""


def photos(people: int) -> list[np.ndarray]:
    seeds = Seeds(77)
    generator = Generator(seeds.child("synthetic"))
    pictures = []
    for person in range(people):
        styles = np.tile(generator.style(seeds.child("p", person)), (LAYERS, 1))
        pictures.append(generator.photo(styles))
        styles[:POSE] = generator.style(seeds.child("o", person, 1))
        pictures.append(generator.photo(styles))
    return pictures


def scores(attacker: str, pictures: list[np.ndarray], large: float) -> tuple[np.ndarray, float]:
    """Cosine similarities [N, N], and milliseconds of processor time per image."""
    detect.LARGE = large  # type: ignore[assignment]
    detect.forget_faces()
    system, start = build_attacker(attacker), time.process_time()
    vectors = np.nan_to_num(system.embed(pictures).vectors.astype(float))
    spent = 1000 * (time.process_time() - start) / len(pictures)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors @ vectors.T, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=160)
    pictures = photos(parser.parse_args().people)
    i, j = np.triu_indices(len(pictures), 1)
    same = i // 2 == j // 2
    usual = detect.LARGE
    for attacker in ("dlib", "sface"):
        (fine, slow), (coarse, fast) = (scores(attacker, pictures, large) for large in (float("inf"), usual))
        print(f"{attacker}: {slow:.0f} ms with one fine look, {fast:.0f} ms with a coarse one first")
        for far in (0.01, 0.001):
            with_fine, with_coarse = (
                s[i, j][same] > np.quantile(s[i, j][~same], 1 - far, method="higher") for s in (fine, coarse)
            )
            lost, won = int((with_fine & ~with_coarse).sum()), int((with_coarse & ~with_fine).sum())
            p = binomtest(lost, lost + won).pvalue if lost + won else 1.0
            print(
                f"  TAR at FAR {far}: {with_fine.mean():.3f}, {with_coarse.mean():.3f}; {lost} lost, {won} won, p = {p:.2f}"
            )


if __name__ == "__main__":
    main()
