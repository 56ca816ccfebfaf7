"""How well the base model knows the pictures of finished runs: `python benchmarks/denoising_error.py RUN-OR-SWEEP ... [--add]`

A defended face can have lines and patches that realism and the index hardly see: their features are of whole, small pictures.
The un-personalized base predicts the noise in such a picture worse. Its error (as in Graham et al., "Denoising diffusion models
for out-of-distribution detection", CVPR Workshops 2023, arXiv 2211.07740, who reconstruct; here it is the training loss itself)
is given in units of what it is on photos of public people:

    error(x) = mean over t, e of | f(z_t, t) - target |^2,   z_t = sqrt(a_t) z + sqrt(1 - a_t) e,   z the latents of x

with a few steps t and the same draws of e for every picture. 1 is as strange as a photo; smooth pictures are below, so read it
beside realism. It is no part of the index. Written to docs/data/study/denoising.csv, one row for each person of a condition; of
a condition in several runs the one with most images counts. `python benchmarks/study_page.py` compares them.
"""

import argparse
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from study_tables import WHERE, Found, by_key, found_in, larger, where
from torch import Tensor

from iddmbench.cells.public import chosen
from iddmbench.cells.stages import AT_ONCE, pixels_of
from iddmbench.faces.detect import YuNet
from iddmbench.models.base import BaseModel
from iddmbench.personalize.trainer import denoise
from iddmbench.photos.references import crop_photo
from iddmbench.results.run_folder import RunFolder, runs_of
from iddmbench.results.summary import UNDEFENDED
from iddmbench.run.config import make_config
from iddmbench.run.plan import RunPlan
from iddmbench.seeds import Seeds
from iddmbench.store.cache import default_cache

STEPS, DRAWS = (100, 250, 400), 2
"""Of a thousand: texture to the form of the face. With more noise all pictures look alike to the base."""
PROMPT = "a photo of person"
OUT = Path(__file__).parents[1] / "docs" / "data" / "study" / "denoising.csv"


class Judge:
    """A base without adapter."""

    def __init__(self, base: BaseModel, photos: np.ndarray):
        """photos: uint8 [M, S, S, 3] of public people, what an error of 1 is."""
        self.base = base
        self.unit = 1.0
        self.unit = float(np.median(self.errors(photos)))

    @torch.inference_mode()
    def errors(self, images: np.ndarray) -> np.ndarray:
        """float [N] of uint8 [N, S, S, 3]."""
        parts = [self._errors(pixels_of(images[i : i + AT_ONCE])) for i in range(0, len(images), AT_ONCE)]
        return torch.cat(parts).numpy() / self.unit

    def _errors(self, pixels: Tensor) -> Tensor:
        base = self.base
        latents, text = base.encode(pixels), base.embed_text([PROMPT])
        generator = Seeds(0).child("denoising").torch()
        found = []
        for t in STEPS:
            for _ in range(DRAWS):
                noise = torch.randn(latents[:1].shape, generator=generator).expand_as(latents)
                at = torch.full((len(latents),), t)
                found.append(denoise(base, base.unet, latents, text, noise, at).error())
        return torch.stack(found).mean(0)


def judge_of(config: Mapping[str, Any]) -> Judge:
    """Of a run's base and dataset."""
    wanted = {key: config[key] for key in ("dataset", "dataset_options", "base") if key in config}
    plan = RunPlan.of(make_config(wanted | {"defenses": [UNDEFENDED]}), default_cache())
    detector = YuNet()
    cut = (crop_photo(photo, plan.stages.base, detector) for _, photo in chosen(plan.stages.data.public))
    return Judge(plan.stages.base, np.stack([photo for photo in cut if photo is not None]))


class Measured:
    """Errors by picture; those of the same person's same pictures, in however many runs, computed once."""

    def __init__(self) -> None:
        self.judges: dict[str, Judge] = {}
        self.known: dict[str, np.ndarray] = {}

    def of(self, one: Found) -> dict[str, np.ndarray]:
        """Person -> float [images]."""
        config = one.summary.run.config
        place = f"{config['dataset']} {config.get('dataset_options')} {config['base']}"
        if place not in self.judges:
            self.judges[place] = judge_of(config)
        rows = one.condition.rows(one.summary.run.images)
        found = {}
        for person, own in rows.groupby("subject"):
            files = [one.summary.run.path / name for name in own["image"]]
            images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
            key = hashlib.sha256(place.encode() + images.tobytes()).hexdigest()
            if key not in self.known:
                self.known[key] = self.judges[place].errors(images)
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
