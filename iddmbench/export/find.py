"""A personalized model of a finished run, found in the cache."""

import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from iddmbench.cells.cell import Cell
from iddmbench.cells.stages import CellStages
from iddmbench.defense import DEFENSES, Defense, configure
from iddmbench.errors import UserError, did_you_mean
from iddmbench.models.recipe import TrainingSettings
from iddmbench.personalize.trainer import PersonalizedModel
from iddmbench.results.reproduce import command
from iddmbench.results.run_folder import RunFolder
from iddmbench.results.summary import Condition, Summary
from iddmbench.run.finished import stages_of_run
from iddmbench.store.files import read_tensors


@dataclass(frozen=True, eq=False)
class FoundModel:
    """One person's model under one condition: the stages it came from, its cell, its tensors as they are stored."""

    run: RunFolder
    stages: CellStages
    cell: Cell
    condition: Condition
    weights: dict[str, Tensor]

    @property
    def lora(self) -> TrainingSettings:
        """The settings of its personalizer."""
        return self.stages.lora

    def personalized(self) -> PersonalizedModel:
        return self.stages.personalizer.model(self.weights, self.stages.lora)


def find_model(run: RunFolder, subject: str, condition: str, seed: int | None, cache: Path) -> FoundModel:
    """The model of `subject` under `condition` ("iddm-1.00", "none"), as the run's own cell names it.

    Args:
        seed: which repetition; None where the run has one.

    Raises UserError when the run has no such person, condition or seed, when that cell failed or trains nothing of its own,
    and, with the command that makes it again, when the cache no longer has the model.
    """
    run.check_made()
    chosen = _condition(run, condition)
    rows = chosen.rows(run.cells)
    _check_subject(run, subject)
    seed = _seed(run, seed)
    row = rows[(rows["subject"] == subject) & (rows["seed"] == seed)]
    if row.empty:
        raise UserError(f"run {run.name} has no cell of {subject} under {condition} with seed {seed}")
    if (row["status"] != "ok").any():
        raise UserError(f"the cell of {subject} under {condition} failed in run {run.name}: {row['error'].iloc[0]}")
    defense = _defense(run, chosen)
    _check_trains(defense, run.config)
    stages, subjects = stages_of_run(run, cache)
    if stages.data.fingerprint != run.config["data_fingerprint"] or subject not in subjects:
        raise UserError(f"run {run.name} was made with different photos of '{run.config['dataset']}' than those here")
    if stages.base.fingerprint != run.config["base_fingerprint"]:
        raise UserError(
            f"run {run.name} was made with different weights of base '{run.config['base']}' than those here"
        )
    cell = Cell(subjects[subject], defense, seed)
    path = stages.adapter(cell)
    if not path.is_file():
        again = shlex.join([*command(run.config), "--out", str(run.path)])
        raise UserError(
            f"the model of {subject} under {condition} is not in the cache {cache}, or is from another code version; "
            f"retrain it with: {again}"
        )
    return FoundModel(run, stages, cell, chosen, read_tensors(path))


def _condition(run: RunFolder, wanted: str) -> Condition:
    known = {condition.label: condition for condition in Summary(run).conditions}
    if wanted not in known:
        raise UserError(f"run {run.name} has no condition '{wanted}': {did_you_mean(wanted, known)}")
    return known[wanted]


def _check_subject(run: RunFolder, wanted: str) -> None:
    known = {str(name) for name in run.cells["subject"]}
    if wanted not in known:
        raise UserError(f"run {run.name} has no subject '{wanted}': {did_you_mean(wanted, known)}")


def _seed(run: RunFolder, wanted: int | None) -> int:
    known = sorted({int(seed) for seed in run.cells["seed"]})
    if wanted is None and len(known) > 1:
        raise UserError(f"run {run.name} has several seeds: choose one of {', '.join(map(str, known))} with --seed")
    if wanted is not None and wanted not in known:
        raise UserError(f"run {run.name} has no seed {wanted}, but {', '.join(map(str, known))}")
    return known[0] if wanted is None else wanted


def _defense(run: RunFolder, condition: Condition) -> Defense:
    """The defense with the options that the run noted for this condition."""
    cls = DEFENSES.get(condition.defense)
    if cls.anchor:
        return configure(cls, {})
    for entry in run.config["plan"]:
        if entry["name"] == condition.defense and math.isclose(
            entry["strength"], condition.strength or 0, abs_tol=1e-6
        ):
            return configure(cls, {key: value for key, value in entry.items() if key != "name"})
    raise UserError(f"run {run.path} is damaged: its config.json has no options of {condition.label}")


def _check_trains(defense: Defense, config: dict[str, Any]) -> None:
    name = defense.name
    if name == "generic":
        raise UserError(
            "the condition 'generic' is the base model itself: nothing was trained, so there is nothing to export"
        )
    if defense.acts_on("prepare"):
        raise UserError(
            f"defense '{name}' prepares the base model, which an adapter does not hold: on the plain base it would not be the "
            "model that was measured, so it can't be exported"
        )
    if defense.anchor or defense.acts_on("protect") or defense.acts_on("personalize"):
        return
    raise UserError(
        f"defense '{name}' changes the generated images, not the model: its model is the undefended one, "
        "and what was measured does not hold for it (--condition none exports that one)"
    )
