"""Random draws are derived from what they are for, never from a global state."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Seeds:
    """A path of labels below a root seed; each path gives independent, reproducible generators.

    `Seeds(0).child("personalize", "s29").torch()` is the same on every machine and in every process, and does not
    depend on what else was drawn before it.
    """

    root: int
    path: tuple[str, ...] = ()

    def child(self, *labels: object) -> "Seeds":
        return Seeds(self.root, self.path + tuple(str(label) for label in labels))

    def value(self) -> int:
        """A 63-bit seed."""
        text = "\x1f".join((str(self.root), *self.path))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def numpy(self) -> np.random.Generator:
        return np.random.default_rng(self.value())

    def torch(self) -> torch.Generator:
        """A CPU generator: noise is drawn on the CPU and moved, so that a GPU run sees the same draws."""
        return torch.Generator().manual_seed(self.value())
