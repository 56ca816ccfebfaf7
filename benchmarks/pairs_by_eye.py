"""Whose avatar is it? Pairs to tell apart by eye, blind: `python benchmarks/pairs_by_eye.py RUN[=CONDITION] ... --out FOLDER`

Each trial is a reference photo of a person and two images of one condition, by the same prompt: one of the person's model, one
of the model of somebody who has most traits in common with the person. One trial per person and condition, in drawn order,
twelve on a sheet; with `--face` the inner face alone. `key.csv` says which is which: read it after the answers are written into
`answers.txt`, a digit per trial, 1 or 2. Then `--score` prints the share that was right by condition; guessing gives one half.
"""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.stats import binomtest
from settings_sheet import images_of

from iddmbench.faces.detect import YuNet
from iddmbench.faces.surround import inner_face
from iddmbench.photos.dataset import DATASETS
from iddmbench.results.run_folder import REFERENCES, RunFolder
from iddmbench.seeds import Seeds

SIDE, GAP, ACROSS, DOWN = 128, 8, 3, 4
KEY, ANSWERS = "key.csv", "answers.txt"
Show = Callable[[np.ndarray], np.ndarray | None]
"""What of an image uint8 [H, W, 3] is shown; None where that can't be."""


@dataclass(frozen=True)
class Trial:
    """What a trial shows. right: 1 or 2, the place of the person's own image. number: from 1, over all sheets."""

    number: int
    condition: str
    person: str
    other: str
    image: int
    right: int


def alike(traits: dict[str, dict[str, str]], person: str, rng: np.random.Generator) -> str:
    """Of those who have most traits in common with the person, one drawn."""
    own = traits[person].items()
    shared = {name: len(own & other.items()) for name, other in traits.items() if name != person}
    most = [name for name, count in shared.items() if count == max(shared.values())]
    return str(rng.choice(most))


def drawn(
    columns: list[tuple[RunFolder, str]], traits: dict[str, dict[str, str]], show: Show, seeds: Seeds
) -> list[Trial]:
    """One trial per column and person, in drawn order; the image is the first from a drawn one on that can be shown of both."""
    rng, found = seeds.numpy(), []
    for run, condition in columns:
        for person in traits:
            other = alike(traits, person, rng)
            pairs = list(zip(*(run.pictures("images", condition, name) for name in (person, other)), strict=True))
            start, right = int(rng.integers(len(pairs))), int(rng.integers(1, 3))
            places = [*range(start, len(pairs)), *range(start)]
            image = next((i for i in places if all(show(x) is not None for x in pairs[i])), None)
            if image is not None:
                found.append((condition, person, other, image, right))
    order = rng.permutation(len(found))
    return [Trial(place, *found[i]) for place, i in enumerate(order, 1)]


@lru_cache
def detector() -> YuNet:
    return YuNet()


def whole(image: np.ndarray) -> np.ndarray:
    return image


def face_alone(image: np.ndarray) -> np.ndarray | None:
    """The square around the inner face, gray outside of it; None where no face is found."""
    found = detector().detect([image])
    if not found.found[0]:
        return None
    mask = inner_face(found.landmarks[0], *image.shape[:2]) > 0
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    side = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    kept = np.where(mask[..., None], image, 128)[rows[0] : rows[0] + side, columns[0] : columns[0] + side]
    return cv2.copyMakeBorder(
        kept, 0, side - len(kept), 0, side - kept.shape[1], cv2.BORDER_CONSTANT, value=(128, 128, 128)
    ).astype(np.uint8)


def picture(trial: Trial, run: RunFolder, show: Show) -> np.ndarray:
    """uint8 [H, W, 3] RGB: the trial's number, the reference, image 1, image 2."""
    pair = [run.pictures("images", trial.condition, name)[trial.image] for name in (trial.person, trial.other)]
    reference = next(x for x in run.pictures(REFERENCES, trial.person) if show(x) is not None)
    shown = [show(x) for x in (reference, *(pair if trial.right == 1 else pair[::-1]))]
    big = [cv2.resize(x, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for x in shown if x is not None]
    space = np.full((SIDE, GAP, 3), 255, np.uint8)
    row = np.concatenate([big[0], space, space, big[1], space, big[2], space, space, space], axis=1)
    head = np.full((20, row.shape[1], 3), 255, np.uint8)
    cv2.putText(head, f"{trial.number}", (2, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([head, row])


def write_sheets(trials: list[Trial], runs: dict[str, RunFolder], show: Show, out: Path) -> None:
    for number, start in enumerate(range(0, len(trials), ACROSS * DOWN), 1):
        shown = [picture(t, runs[t.condition], show) for t in trials[start : start + ACROSS * DOWN]]
        shown += [np.full_like(shown[0], 255)] * (-len(shown) % ACROSS)
        rows = [np.concatenate(shown[i : i + ACROSS], axis=1) for i in range(0, len(shown), ACROSS)]
        sheet = cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(out / f"sheet-{number}.jpg"), sheet, [cv2.IMWRITE_JPEG_QUALITY, 80])


@dataclass(frozen=True)
class Share:
    """Trials that were answered right, of how many; low, high: the exact 95 % interval of the share; p: against guessing."""

    right: int
    of: int
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        """ "96 % [79, 99.9]"."""
        return f"{100 * self.right / self.of:.0f} % [{100 * self.low:.0f}, {100 * self.high:.0f}]"


def shares(folder: Path) -> dict[str, Share]:
    """By condition, of the answers in a folder of sheets. Raises ValueError where an answer is missing."""
    trials = pd.read_csv(folder / KEY)
    given = re.findall(r"[12]", (folder / ANSWERS).read_text(encoding="utf-8"))
    if len(given) != len(trials):
        raise ValueError(f"{len(given)} answers for {len(trials)} trials: give a digit, 1 or 2, for each")
    found = {}
    for condition, right in (trials["right"] == list(map(int, given))).groupby(trials["condition"]):
        test = binomtest(int(right.sum()), len(right))
        low, high = test.proportion_ci()
        found[str(condition)] = Share(test.k, test.n, low, high, test.pvalue)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help="of the same people")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--face", action="store_true", help="show the inner face alone")
    parser.add_argument("--score", action="store_true", help="compare the folder's answers with its key")
    asked = parser.parse_args()
    if asked.score:
        for condition, share in shares(asked.out).items():
            print(f"{condition:<16} {share.right:>3} of {share.of}  {share}  p {share.p:.2g}")
        return
    columns = [images_of(argument) for argument in asked.runs]
    config = columns[0][0].config
    data = DATASETS.get(str(config["dataset"]))(**config["dataset_options"]).load()
    people = set(config["subjects"])
    traits = {subject.name: dict(subject.traits) for subject in data.subjects if subject.name in people}
    show, part = (face_alone, ("face",)) if asked.face else (whole, ())
    trials = drawn(columns, traits, show, Seeds(0).child("pairs by eye", *part))
    asked.out.mkdir(parents=True, exist_ok=True)
    write_sheets(trials, {condition: run for run, condition in columns}, show, asked.out)
    pd.DataFrame(trials).to_csv(asked.out / KEY, index=False)


if __name__ == "__main__":
    main()
