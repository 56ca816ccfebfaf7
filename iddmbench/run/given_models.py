"""Prepares models that somebody else trained for an evaluation: each is read once before any image is generated."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from iddmbench.cells.cell import Cell
from iddmbench.cells.imported import ImportedStages, ModelFile, Place
from iddmbench.models.base import BaseModel
from iddmbench.personalize.movement import movement_note
from iddmbench.personalize.read_model import model_digest, read_model
from iddmbench.types import FaceData, Skipped

Models = dict[str, dict[str, Path | None]]
"""Where models lie, by condition and person; None for the base itself, the un-personalized model."""


@dataclass(frozen=True)
class Told:
    """How a cell's model was read: its file's layout and how many of its tensors are in effect, and what its reader said."""

    cell: Cell
    layout: str
    applied: int
    trigger: str
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        return name_of(self.cell)


def name_of(cell: Cell) -> str:
    """Without the file's path: notes end in reports."""
    return f"{'undefended ' if cell.defense.name == 'none' else ''}model of '{cell.subject.name}'"


def models_left_out(models: Mapping[str, Mapping[str, Path | None]], data: FaceData) -> Iterator[Skipped]:
    known = {subject.name for subject in data.subjects}
    for people in models.values():
        for name, path in people.items():
            if name not in known and path is not None:
                yield Skipped(name, f"no enrolment photos of '{name}': {path.name} left out")


def read_models(models: Models, cells: Sequence[Cell], base: BaseModel) -> tuple[dict[Place, ModelFile], list[Told]]:
    """The cells' models by place, and how each was read; one is in memory at a time.

    Raises UserError as `read_model` does.
    """
    files: dict[Place, ModelFile] = {}
    told = []
    for cell in cells:
        if cell.defense.name not in models:
            continue
        place, path = (cell.defense.name, cell.subject.name), models[cell.defense.name][cell.subject.name]
        if path is None:
            files[place] = ModelFile(None, "")
            continue
        found = read_model(path, base)
        files[place] = ModelFile(path, model_digest(found.model))
        warnings = tuple(text.replace(found.source, name_of(cell)) for text in found.warnings)
        told.append(Told(cell, found.layout, found.applied, found.trigger, warnings))
    return files, told


def notes_of(told: Sequence[Told], stages: ImportedStages) -> Iterator[str]:
    """How much of each model is in effect, and what it does. Raises UserError for one that does nothing."""
    for one in told:
        levels = stages.movement(one.cell)
        yield f"{one.name} ({one.layout}): all {one.applied} tensors applied; {movement_note(levels)}"
        yield from one.warnings
        if one.trigger and not any(one.trigger.lower() in prompt.lower() for prompt in stages.prompts):
            yield f"{one.name} was trained on '{one.trigger}', which none of the prompts contains: give prompts that do"
