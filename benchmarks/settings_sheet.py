"""The same people under several runs side by side: `python benchmarks/settings_sheet.py RUN[=CONDITION] ... --out FILE.jpg`.

One row per person: a reference photo, then for each run the first image of its first and third prompt. CONDITION is a folder of
the run's images ("none", "iddm-1.00"); by default the last one that is no anchor.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from iddmbench.errors import UserError
from iddmbench.results.run_folder import REFERENCES, RunFolder
from iddmbench.results.summary import GENERIC, UNDEFENDED

SIDE, GAP, PROMPTS = 96, 10, (0, 2)


def images_of(argument: str) -> tuple[RunFolder, str]:
    """The run and the folder of its images that an argument names. Raises UserError where there is none."""
    path, _, condition = argument.partition("=")
    run = RunFolder.open(Path(path))
    known = run.subfolders("images")
    chosen = condition or next((c for c in reversed(known) if c not in (UNDEFENDED, GENERIC)), "")
    if chosen not in known:
        raise UserError(f"{path} has no images of '{chosen}': choose from {', '.join(known)}")
    return run, chosen


def sheet(columns: list[tuple[RunFolder, str]], people: list[str]) -> np.ndarray:
    """uint8 [H, W, 3] RGB."""
    rows = []
    for name in people:
        groups = [[columns[0][0].pictures(REFERENCES, name)[0]]]
        for run, condition in columns:
            per_prompt = int(run.config["images_per_prompt"])
            pictures = run.pictures("images", condition, name)
            groups.append([pictures[prompt * per_prompt] for prompt in PROMPTS])
        space = np.full((SIDE, GAP, 3), 255, np.uint8)
        parts = [part for group in groups for part in (*map(resized, group), space)]
        rows.append(np.concatenate(parts[:-1], axis=1))
    return np.concatenate(rows)


def resized(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--person", action="append", help="by default the first six of the first run")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    columns = [images_of(argument) for argument in asked.runs]
    people = asked.person or [str(name) for name in columns[0][0].config["subjects"]][:6]
    picture = cv2.cvtColor(sheet(columns, people), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(asked.out), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
