"""What verification is made in: the verifier's own photos and base, and a bundle's images by cell."""

from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from iddmbench.cells.cell import Cell, UnauthorizedTrainer
from iddmbench.defense import DEFENSES, Defense, configure
from iddmbench.errors import UserError
from iddmbench.models.base import ALIASES, EMBEDDED, BaseModel, load_base
from iddmbench.models.recipe import Sampling, TrainingSettings
from iddmbench.personalize.personalizer import PERSONALIZERS, Personalizer
from iddmbench.perturb.purifier import purifier
from iddmbench.photos.dataset import DATASETS
from iddmbench.run.config import LORA
from iddmbench.submission.read import Bundle
from iddmbench.submission.schema import ANCHORS, CellFacts, RunFacts, Submission
from iddmbench.submission.text import AttackerName
from iddmbench.types import FaceData, Subject


def load_parts(
    facts: RunFacts, dataset_options: dict[str, Any], base: str | None, device: str
) -> tuple[FaceData, BaseModel, Personalizer, TrainingSettings, Sampling, UnauthorizedTrainer | None]:
    """The verifier's own dataset and base model, which must be those that the bundle names, the personalizer and its settings,
    and who personalizes.

    Args:
        base: folder or hub id of a base that is not one of the known names; a bundle never says what to load.

    Raises UserError when photos or weights are not the same ones, or a setting is not valid.
    """
    if facts.personalizer not in PERSONALIZERS.names():
        raise UserError(f"the bundle was personalized by '{facts.personalizer[:80]}', which is not installed here")
    if facts.lora and (facts.personalizer != LORA or facts.personalizer_options):
        raise UserError("the bundle gives LoRA settings beside others: its run can't have been made")
    if facts.dataset not in DATASETS.names():
        raise UserError(f"the bundle is on dataset '{facts.dataset}', which is not installed here")
    data = DATASETS.get(facts.dataset)(**dataset_options).load()
    if data.fingerprint != facts.data_fingerprint:
        raise UserError(f"the bundle was made with different photos of '{facts.dataset}' than those here")
    if base is None and facts.base not in (*EMBEDDED, *ALIASES):
        raise UserError("the bundle was made with a custom base model: give its folder or hub id with --base")
    model = load_base(base or facts.base, device, facts.precision)
    if model.fingerprint != facts.base_fingerprint:
        raise UserError(f"the bundle was made with different base model weights than '{base or facts.base}' here")
    try:
        personalizer = PERSONALIZERS.get(facts.personalizer)()
        lora = personalizer.settings(model.recipe, facts.lora or facts.personalizer_options, "personalizer_options")
        personalizer.check(model, lora)
        sampling = Sampling.model_validate({**model.recipe.sampling.model_dump(), **facts.sampling})
    except (ValueError, UserError) as error:
        raise UserError("the bundle's personalizer or sampling settings are not valid") from error
    for name, stated, found in (("lora", facts.lora_settings, lora), ("sampling", facts.sampling_settings, sampling)):
        if stated != found.model_dump(mode="json"):
            raise UserError(f"the bundle's {name}_settings do not follow from the base's recipe and its changes")
    if facts.purify:
        purifier(facts.purify)
        if facts.threat == "authorized":
            raise UserError(
                "the bundle purifies the photos, which only an unauthorized trainer does: its threat must be unauthorized"
            )
    return data, model, personalizer, lora, sampling, UnauthorizedTrainer.of(facts.threat, facts.purify)


def real_defense(cell: CellFacts, subjects: dict[str, Subject], options: dict[str, Any]) -> Cell:
    """The cell with the installed defense of its name. Raises UserError when there is none, or its options are wrong."""
    cls = DEFENSES.get(cell.defense)
    defense = configure(cls, {} if cls.anchor else {**options, "strength": cell.strength})
    return Cell(subjects[cell.subject], defense, cell.seed)


def stated_defense(cell: CellFacts, meta: Submission, white_box: tuple[str, ...]) -> Defense:
    """The defense as far as scoring knows it: name, strength, and the attackers that are white-box for it."""
    if cell.defense in ANCHORS:
        return configure(DEFENSES.get(cell.defense), {})
    judges = judges_of(meta)
    attributes = {
        "__module__": __name__,
        "name": cell.defense,
        "title": meta.title,
        "surrogates": lambda self: white_box,
        "judges": lambda self: judges,
    }
    return type("StatedDefense", (Defense,), attributes)(strength=cell.strength)


def white_box_of(meta: Submission) -> tuple[str, ...]:
    """Public names of the attackers that the bundle's defense optimized against.

    An installed defense says that itself; of one that is not installed here, the bundle's word is taken, and shown as such.
    Raises UserError for options that the installed defense does not take, and for a surrogate whose name is none.
    """
    if meta.defense in ANCHORS:
        return ()
    if meta.defense not in DEFENSES.names():
        return meta.white_box
    options: dict[str, Any] = dict(meta.run.resolved_options)
    surrogates = configure(DEFENSES.get(meta.defense), options).surrogates()
    for name in surrogates:
        try:
            TypeAdapter(AttackerName).validate_python(name)
        except ValidationError as error:
            raise UserError(
                f"the bundle's surrogate {name[:80]!r} is not an attacker name, or contains a path"
            ) from error
    return surrogates


def judges_of(meta: Submission) -> tuple[str, ...]:
    """Networks whose features the bundle's defense optimized; of one that is not installed here, none are known."""
    if meta.defense not in DEFENSES.names():
        return ()
    return configure(DEFENSES.get(meta.defense), dict(meta.run.resolved_options)).judges()


def posted_by(bundles: list[Bundle], side: int) -> Callable[[Cell], np.ndarray]:
    """Images of a cell from the first bundle that holds it. Raises UserError for a cell that failed for its submitter."""
    index = {_key(c): (b, c) for b in reversed(bundles) for c in b.meta.cells if c.status == "ok"}
    last: dict[tuple, np.ndarray] = {}

    def posted(cell: Cell) -> np.ndarray:
        strength = None if cell.defense.anchor else cell.defense.strength
        key = (cell.defense.name, strength, cell.subject.name, cell.seed)
        if key not in index:
            raise UserError("failed in the submitter's run: the bundle holds no image of it")
        if key not in last:
            last.clear()
            bundle, facts = index[key]
            last[key] = bundle.images(facts, side)
        return last[key]

    return posted


def _key(cell: CellFacts) -> tuple:
    return (cell.defense, cell.strength, cell.subject, cell.seed)
