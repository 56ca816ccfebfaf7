"""Contact sheets for sorting by eye, blind: `python benchmarks/sheets_by_eye.py RUN --out FOLDER`, RUN being finished.

One sheet per control of utility_controls.py and condition of the run, under letters drawn by a seed: a row per person,
a reference photo first, then one image per prompt. `key.json` says which letter is which: read it after sorting. With
`--order LETTERS` (best first) and `--table controls.md`, the table of the other script, the rank correlation is printed.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import kendalltau, spearmanr
from utility_controls import Control, degraded, swapped

from iddmbench.results.run_folder import REFERENCES, RunFolder
from iddmbench.seeds import Seeds

PEOPLE, SCALE, GAP = 4, 2, 6


def sheet(references: dict[str, np.ndarray], control: Control, names: list[str], per_prompt: int) -> np.ndarray:
    """uint8 [H, W, 3]: PEOPLE rows of a reference and one image per prompt."""
    rows = []
    for name in names:
        pictures = [references[name], *control.images[name][::per_prompt]]
        big = [cv2.resize(x, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC) for x in pictures]
        edges = [cv2.copyMakeBorder(x, GAP, GAP, GAP, GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255)) for x in big]
        rows.append(np.concatenate([edges[0], np.full_like(edges[0][:, :GAP], 255), *edges[1:]], axis=1))
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--order", help="letters, best first")
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    if asked.order:
        compare(json.loads((asked.out / "key.json").read_text(encoding="utf-8")), asked.order, asked.table)
        return
    run = RunFolder.open(asked.run)
    names = [str(name) for name in run.config["subjects"]]
    shown, per_prompt = names[-PEOPLE:], int(run.config["images_per_prompt"])

    def images(condition: str) -> dict[str, np.ndarray]:
        return {name: np.stack(run.pictures("images", condition, name)) for name in names}

    undefended = images("none")
    controls = [Control("undefended", undefended), *degraded(undefended), swapped(undefended)]
    controls += [Control("un-personalized", images("generic"))]
    controls += [Control(c, images(c)) for c in run.subfolders("images") if c not in ("none", "generic")]
    references = {name: run.pictures(REFERENCES, name)[0] for name in shown}
    letters = [chr(ord("A") + i) for i in Seeds(0).child("sheets", run.name).numpy().permutation(len(controls))]
    asked.out.mkdir(parents=True, exist_ok=True)
    for letter, control in zip(letters, controls, strict=True):
        picture = sheet(references, control, shown, per_prompt)
        cv2.imwrite(str(asked.out / f"{letter}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    key = dict(sorted(zip(letters, (control.title for control in controls), strict=True)))
    (asked.out / "key.json").write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")


def compare(key: dict[str, str], order: str, table: Path) -> None:
    """Prints both orders side by side, and how well they agree."""
    index = {}
    for line in table.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in key.values() and cells[0] not in index:
            index[cells[0]] = float(cells[-2].split()[0])
    titles = [key[letter] for letter in order]
    print("| by eye | sheet | condition | index |\n|---|---|---|---|")
    for place, (letter, title) in enumerate(zip(order, titles, strict=True), 1):
        print(f"| {place} | {letter} | {title} | {index[title]:.2f} |")
    values = [index[title] for title in titles]
    places = list(range(len(values), 0, -1))
    rho, tau = spearmanr(places, values)[0], kendalltau(places, values)[0]
    print(f"\nSpearman's rho {rho:.2f}, Kendall's tau {tau:.2f}, {len(values)} sheets, one reader.")


if __name__ == "__main__":
    main()
