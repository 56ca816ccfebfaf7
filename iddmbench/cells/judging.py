"""The optional judges (iddmbench/judges/) of a cell's images: those whose weights and packages are here."""

from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from iddmbench.cells.cell import PROTECTED, Outputs
from iddmbench.cells.crops import Crops
from iddmbench.judges import Judge, available, unmeasured
from iddmbench.judges.base import Scene
from iddmbench.results.metric_info import UNMEASURED
from iddmbench.store.files import read_arrays, write_arrays
from iddmbench.types import Subject


class OptionalJudges:
    """They judge, or have judged. `data`: fingerprint of the dataset. Where they are not `wanted`, there are none."""

    def __init__(self, crops: Crops, data: str, wanted: bool):
        self.crops, self.data, self.wanted = crops, data, wanted

    @cached_property
    def _judges(self) -> tuple[Judge, ...]:
        return available(str(self.crops.base.device)) if self.wanted else ()

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """By the judge's name."""
        return {judge.name: judge.fingerprint() for judge in self._judges}

    @property
    def problem(self) -> str:
        """Which metrics are not measured for lack of weights, with the commands that get them; empty if all are."""
        missing = unmeasured(self._judges) if self.wanted else ""
        return f"{UNMEASURED}{missing}" if missing else ""

    def judged(self, subject: Subject, outputs: Outputs) -> dict[str, np.ndarray]:
        """What they say of each image, by metric."""
        found: dict[str, np.ndarray] = {}
        for judge in self._judges:
            compute = partial(self._write, judge, subject, outputs)
            folder = self.crops.store.fetch("judge", self._key(judge, outputs.key), compute)
            found |= read_arrays(folder / "judged.npz")
        return found

    def has(self, images: dict[str, Any]) -> bool:
        """images: `image_key` of a cell."""
        return all(self.crops.store.has("judge", self._key(judge, images)) for judge in self._judges)

    def _write(self, judge: Judge, subject: Subject, outputs: Outputs, out: Path) -> None:
        references, clean = self.crops.references(subject), self.crops.surrogate_photos(subject)
        protected = outputs.extras.get(PROTECTED)
        found = judge.judge(Scene(list(outputs.images), outputs.prompts, references, protected, clean))
        write_arrays(out / "judged.npz", **found)

    def _key(self, judge: Judge, images: dict[str, Any]) -> dict[str, Any]:
        return {"images": images, "judge": self.fingerprints[judge.name], "data": self.data}
