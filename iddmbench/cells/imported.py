"""Stages of cells whose models were trained elsewhere: the protocol's prompts and noise, sampled by the code of a run."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from iddmbench.cells.cell import Cell, Outputs
from iddmbench.cells.given import GivenStages
from iddmbench.cells.versions import code, precision_key
from iddmbench.errors import UserError
from iddmbench.personalize.movement import NOTHING, moved
from iddmbench.personalize.read_model import model_digest, read_model
from iddmbench.personalize.trainer import PersonalizedModel
from iddmbench.seeds import Seeds
from iddmbench.store.cost import read_cost
from iddmbench.store.files import read_images, write_text

MOVED_BY = 4
"""Prompts on which it is measured how far a model's images are from the base's own."""
FIGURE = "moved.json"
Place = tuple[str, str]
"""A condition's defense and a subject, by name."""


@dataclass(frozen=True)
class ModelFile:
    """A model to make images with; `path` is None for the base itself. digest: of what it makes of the base."""

    path: Path | None
    digest: str


class ImportedStages(GivenStages):
    """Stages of models; what has none is a cell of given images.

    Args:
        models: by defense and subject.
        given, parts, digest, judged: as of `GivenStages`.
    """

    def __init__(
        self,
        models: Mapping[Place, ModelFile],
        given: Callable[[Cell], np.ndarray],
        *parts: Any,
        digest: Callable[[Cell], str] | None = None,
        judged: bool = True,
    ):
        super().__init__(given, *parts, digest=digest, judged=judged)
        self._models = models

    def _model(self, cell: Cell) -> ModelFile | None:
        return self._models.get((cell.defense.name, cell.subject.name))

    def is_cached(self, cell: Cell, key: dict[str, Any] | None = None) -> bool:
        return self._model(cell) is None or self.store.has("generate", self.generated_key(cell))

    def generated_key(self, cell: Cell) -> dict[str, Any]:
        """What a model's images depend on: the same file gives the same images, wherever it lies and whatever it is called."""
        model = self._model(cell)
        if model is None:
            raise ValueError(f"{cell.name} has no model")
        key = {"model": model.digest, "base": self.base.fingerprint, "subject": cell.subject.name, "seed": cell.seed}
        key |= {"prompts": self.prompts, "per_prompt": self.per_prompt, "sampling": self._sampling_key}
        return key | {"versions": self.versions} | precision_key(self.base) | code("generate")

    def image_key(self, cell: Cell) -> dict[str, Any]:
        if self._model(cell) is None:
            return super().image_key(cell)
        return self.generated_key(cell) | {"data": self.data.fingerprint}

    def outputs(self, cell: Cell, tick: Callable[[float], None] = lambda share: None) -> Outputs:
        if self._model(cell) is None:
            return super().outputs(cell, tick)
        folder = self._generated(cell)
        prompts = [p for p in self.prompts for _ in range(self.per_prompt)]
        return Outputs(read_images(folder), prompts, self.image_key(cell), {}, {"generate": read_cost(folder)})

    def pictures(self, cell: Cell) -> dict[str, Path]:
        return super().pictures(cell) if self._model(cell) is None else {"": self._generated(cell)}

    def _generated(self, cell: Cell) -> Path:
        def make(out: Path) -> None:
            self._write_generated(cell, self._read(cell), out)

        return self._timed("generate", self.generated_key(cell), make)

    def _read(self, cell: Cell) -> PersonalizedModel:
        file = self._model(cell)
        if file is None or file.path is None:
            return PersonalizedModel(None, self.lora)
        model = read_model(file.path, self.base).model
        if model_digest(model) != file.digest:
            raise UserError(f"{file.path} changed after the evaluation started: start again")
        return model

    def movement(self, cell: Cell) -> float:
        """How far the model's images are from the base's own, in gray levels, on the first prompts (`moved`).

        Raises UserError for a model that does nothing.
        """
        key = {**self.generated_key(cell), "per_prompt": 1, "prompts": self.prompts[:MOVED_BY]}
        folder = self.store.fetch("moved", key, partial(self._write_movement, cell))
        levels = float(json.loads((folder / FIGURE).read_text(encoding="utf-8")))
        file = self._model(cell)
        if levels < NOTHING and file is not None:
            raise UserError(
                f"{file.path} loads on base '{self.base.name}' but does nothing: its images differ from the base's own by "
                f"{levels:.2f} gray levels; was it trained, and on this base?"
            )
        return levels

    def _write_movement(self, cell: Cell, out: Path) -> None:
        seeds = Seeds(cell.seed).child("generate", cell.subject.name)
        levels = moved(self.base, self._read(cell), self.prompts[:MOVED_BY], self.sampling, seeds)
        write_text(out / FIGURE, json.dumps(levels))
