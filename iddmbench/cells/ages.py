"""Age and sex that a network reads in images, for what an avatar keeps of them and for demographic tables."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from iddmbench.attacker import build_attacker
from iddmbench.cells.crops import Crops
from iddmbench.cells.versions import code
from iddmbench.nets.age_sex import AgeSex, age_and_sex
from iddmbench.nets.faceres import FaceRes
from iddmbench.results.metric_info import KEPT_UNMEASURED
from iddmbench.store.files import read_arrays, write_arrays

AGE_READER = "faceres"
"""The recognition system that reads age and sex too. It can't judge a defense that optimizes it: see `Group.judges`."""


class AgeReader:
    """Reads images, or finds them read. Where it is not `wanted`, nothing is read, and no problem is reported."""

    def __init__(self, crops: Crops, wanted: bool):
        self.crops, self.wanted = crops, wanted

    @cached_property
    def fingerprint(self) -> str:
        """Of what reads age and sex; empty where it can't run here (`problem`)."""
        return build_attacker(AGE_READER).fingerprint() if self.wanted and not self.problem else ""

    @cached_property
    def problem(self) -> str:
        """Why age and sex are not read, and how to fix it, in one line; empty if they are."""
        problem = build_attacker(AGE_READER).available() if self.wanted else ""
        # Without the folder in brackets: notes of a run name no place on its machine.
        return f"{KEPT_UNMEASURED}: {problem.partition(' (')[0]}" if problem else ""

    def read(self, images: dict[str, Any], pixels: Callable[[], np.ndarray]) -> AgeSex:
        """`images` identifies the `pixels`, uint8 [N, H, W, 3]. Raises UserError where the network's file is absent."""

        def compute(out: Path) -> None:
            network = build_attacker(AGE_READER).network()
            assert isinstance(network, FaceRes)
            found = age_and_sex(network, list(pixels()), detector=self.crops.detector)
            write_arrays(out / "attributes.npz", age=found.age, female=found.female)

        return AgeSex(
            **read_arrays(self.crops.store.fetch("attributes", self._key(images), compute) / "attributes.npz")
        )

    def has(self, images: dict[str, Any]) -> bool:
        """Whether they are read, or can't be."""
        return not self.fingerprint or self.crops.store.has("attributes", self._key(images))

    def _key(self, images: dict[str, Any]) -> dict[str, Any]:
        return {"images": images, "network": self.fingerprint, **code("attributes")}
