"""How well the base model knows the pictures of finished runs: `python benchmarks/denoising_error.py RUN-OR-SWEEP ... [--add]`

A defended face can have lines and patches that realism and the index hardly see: their features are of whole, small pictures.
The un-personalized base predicts the noise in such a picture worse (`iddmbench.cells.denoising`). Newer runs measure that
themselves, in the column `denoising_error` of `images`; of older ones it is computed from their pictures. Written to
docs/data/study/denoising.csv, one row for each person of a condition; of a condition in several runs the one with most images
counts. `python benchmarks/study_page.py` compares them.
"""

import argparse
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from study_tables import WHERE, Found, by_key, found_in, larger, where

from iddmbench.cells.denoising import denoising_errors
from iddmbench.cells.stages import CellStages
from iddmbench.results.run_folder import RunFolder, runs_of
from iddmbench.results.summary import UNDEFENDED
from iddmbench.run.config import make_config
from iddmbench.run.plan import RunPlan
from iddmbench.store.cache import default_cache

OUT = Path(__file__).parents[1] / "docs" / "data" / "study" / "denoising.csv"


def stages_of(config: Mapping[str, Any]) -> CellStages:
    """Of a run's base and dataset."""
    wanted = {key: config[key] for key in ("dataset", "dataset_options", "base") if key in config}
    return RunPlan.of(make_config(wanted | {"defenses": [UNDEFENDED]}), default_cache()).stages


class Measured:
    """Errors by picture; those of the same person's same pictures, in however many runs, computed once."""

    def __init__(self) -> None:
        self.stages: dict[str, CellStages] = {}
        self.known: dict[str, np.ndarray] = {}

    def of(self, one: Found) -> dict[str, np.ndarray]:
        """Person -> float [images]."""
        config = one.summary.run.config
        place = f"{config['dataset']} {config.get('dataset_options')} {config['base']}"
        rows = one.condition.rows(one.summary.run.images)
        found = {}
        for person, own in rows.groupby("subject"):
            if own["denoising_error"].notna().all():
                found[str(person)] = own["denoising_error"].to_numpy()
                continue
            files = [one.summary.run.path / name for name in own["image"]]
            images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
            key = hashlib.sha256(place.encode() + images.tobytes()).hexdigest()
            if key not in self.known:
                if place not in self.stages:
                    self.stages[place] = stages_of(config)
                stages = self.stages[place]
                self.known[key] = denoising_errors(stages.base, images) / stages.utility.errors.photo_error
            found[str(person)] = self.known[key]
        return found


def rows_of(runs: Sequence[RunFolder]) -> Iterator[dict[str, Any]]:
    conditions, measured = by_key(one for run in runs for one in found_in(run)), Measured()
    for key, several in conditions.items():
        one = several[0]
        found = measured.of(one)
        print(
            f"{one.summary.run.name} {one.condition.label}: {np.mean([e.mean() for e in found.values()]):.3f}",
            flush=True,
        )
        counts = {"seeds": one.seeds, "images": one.images, "run": one.summary.run.name}
        for person, errors in found.items():
            yield where(key) | {"person": person, "value": float(errors.mean())} | counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, or folders of sweeps, with their images")
    parser.add_argument("--add", action="store_true", help="keep the figures of other runs that the table holds")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    table = pd.DataFrame(rows_of([RunFolder.open(run) for path in options.runs for run in runs_of(path)]))
    if options.add:
        table = larger(pd.read_csv(options.out), table, WHERE, ["images"])
    table.to_csv(options.out, index=False, float_format="%.5g", lineterminator="\n")


if __name__ == "__main__":
    main()
