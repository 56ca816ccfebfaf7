"""The base class of judges."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from iddmbench.errors import UserError, first_line
from iddmbench.weights import WeightFile

CODE = 1
"""Raised by hand when a judge would give other numbers for the same images."""
AT_ONCE = 16
"""Images that are in memory as floats together."""


class Scene(NamedTuple):
    """What a judge looks at.

    images: N of uint8 [H, W, 3], any sizes; prompts: N; references: uint8 [R, S, S, 3], the person's photos as they were;
    protected: the same photos as a defense changed them, None where none did; clean: photos of the person beside the
    references (Anti-DreamBooth's set A), uint8 [A, S, S, 3].
    """

    images: Sequence[np.ndarray]
    prompts: Sequence[str]
    references: np.ndarray
    protected: np.ndarray | None
    clean: np.ndarray


class Judge(ABC):
    """One network, or two. Building one is cheap: weights are read when they are first needed.

    Attributes:
        name: what `iddmbench fetch` takes.
        measures: its metrics in words, for messages.
        metrics: their names in the summary table.
        files: its weights.
        package: what it imports beside the core and the package's name; "" if nothing.
        extra: the extra of iddmbench that installs it.
    """

    name: ClassVar[str]
    measures: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    files: ClassVar[tuple[WeightFile, ...]]
    package: ClassVar[tuple[str, str]] = ("", "")
    extra: ClassVar[str] = ""

    def __init__(self, device: str = "cpu"):
        self.device = device

    @classmethod
    def command(cls) -> str:
        """What to type to get all that it needs."""
        install = f'pip install "iddmbench[{cls.extra}]" && ' if cls.extra and not cls._installed() else ""
        return f"{install}iddmbench fetch {cls.name}"

    @classmethod
    def _installed(cls) -> bool:
        return not cls.package[0] or find_spec(cls.package[0]) is not None

    def problem(self) -> str:
        """Why it can't run here, in one line; empty if it can. Downloads nothing."""
        if not self._installed():
            return f'needs extra: pip install "iddmbench[{self.extra}]"'
        problem = next(filter(None, (file.problem() for file in self.files)), None)
        return f"needs weights: iddmbench fetch {self.name} ({problem})" if problem else ""

    def paths(self) -> list[Path]:
        """Of its checked weights. Raises UserError when one is absent or wrong."""
        return [file.require() for file in self.files]

    def fingerprint(self) -> str:
        """Changes whenever an image could get another number."""
        self.paths()
        key = [self.name, CODE, [file.expected for file in self.files], self.package[1]]
        key.append(version(self.package[1]) if self.package[1] else "")
        return hashlib.sha256(json.dumps(key).encode()).hexdigest()

    @abstractmethod
    def judge(self, scene: Scene) -> dict[str, np.ndarray]:
        """Values by metric, float [N] each, or features to compute it from (`linking/judged.py`).

        Raises UserError when the weights are not this network's.
        """


def load_weights(network: nn.Module, path: Path, kind: str) -> None:
    """Put a state dict into the network; nothing in the file is run. Raises UserError when it does not fit exactly."""
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        raise UserError(f"{path} is not a state dict of {kind}: {first_line(error)}") from error


def pixels(images: Sequence[np.ndarray] | np.ndarray) -> Tensor:
    """float [N, 3, H, W] in [0, 1] of N images uint8 [H, W, 3] of one size."""
    return torch.from_numpy(np.stack(list(images))).permute(0, 3, 1, 2).float() / 255
