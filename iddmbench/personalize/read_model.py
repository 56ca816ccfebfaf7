"""Models that were trained elsewhere, by person: which file or folder is whose, and the reader for each kind."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from iddmbench.errors import UserError, did_you_mean
from iddmbench.models.base import BaseModel
from iddmbench.personalize.imported import ImportedModel, listed
from iddmbench.personalize.lora_names import UNET
from iddmbench.personalize.read_dreambooth import read_dreambooth
from iddmbench.personalize.read_lora import PREFERRED, read_adapter
from iddmbench.personalize.tensor_file import PICKLED, read_tensor_file
from iddmbench.personalize.trainer import PersonalizedModel

SUFFIX = ".safetensors"
Adapters = Path | str | Mapping[str, Path | str]
"""One person's file or folder; FOLDER, which holds FOLDER/PERSON.safetensors or FOLDER/PERSON/...; or {person: path}."""


def models_by_person(given: Adapters, subjects: Sequence[str] = (), what: str = "adapter") -> dict[str, Path]:
    """Whose model lies where; no file is read.

    Args:
        subjects: the only people to take; of one file or model folder, the one whom it is of.
        what: what the models are called in messages.

    Raises UserError for a path that is not there, a folder without models, and a single model without its person's name.
    """
    if isinstance(given, Mapping):
        found = {str(person): Path(path).expanduser() for person, path in given.items()}
        for person, path in found.items():
            _check_person(person, what)
            _check_there(path, what)
        if not found:
            raise UserError(f"{what}: no model given")
    else:
        found = _found_at(Path(given).expanduser(), subjects, what)
    for name in subjects:
        if name not in found:
            raise UserError(f"{what}: no model of '{name}': {did_you_mean(name, found)}")
    return {name: path for name, path in found.items() if not subjects or name in subjects}


def _found_at(path: Path, subjects: Sequence[str], what: str) -> dict[str, Path]:
    _check_there(path, what)
    if not path.is_file():
        people = {} if _is_model(path) else _in_folder(path, what)
        one_file = len(people) == 1 and len(subjects) == 1 and next(iter(people.values())).is_file()
        if people and not (one_file and subjects[0] not in people):
            return people
    if len(subjects) != 1:
        raise UserError(f"{what}: {path} is a single model: name its person with subject")
    _check_person(subjects[0], what)
    return {subjects[0]: path}


def _in_folder(folder: Path, what: str) -> dict[str, Path]:
    """FOLDER/PERSON.safetensors and FOLDER/PERSON/. Raises UserError when there is none, or two for one person."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX")))
    found: dict[str, Path] = {}
    for entry in entries:
        if entry.is_file() and entry.suffix.lower() in PICKLED:
            read_tensor_file(entry)  # says why not
        if entry.is_dir() or entry.suffix.lower() == SUFFIX:
            person = entry.name if entry.is_dir() else entry.stem
            _check_person(person, what)
            if person in found:
                raise UserError(f"{what}: {folder} holds two models of '{person}', a file and a folder: keep one")
            found[person] = entry
    if not found:
        raise UserError(
            f"{what}: {folder} holds no model: put one per person there, {folder}/PERSON{SUFFIX} or {folder}/PERSON/"
        )
    return found


def _is_model(folder: Path) -> bool:
    """Whether a folder is a model itself, as diffusers and peft write it, rather than one of several people."""
    return any((folder / name).is_file() for name in PREFERRED) or (folder / UNET).is_dir()


def _check_there(path: Path, what: str) -> None:
    if not path.exists():
        raise UserError(f"{what}: there is no {path}")


def _check_person(name: str, what: str) -> None:
    if not name or not name.isprintable() or "/" in name or name.startswith("."):
        raise UserError(f"{what}: {name!r} can't be a person's name: it becomes a folder name")


def read_model(path: Path, base: BaseModel) -> ImportedModel:
    """A LoRA or DreamBooth folder whose tensors all fit `base`.

    Raises UserError as `read_adapter` and `read_dreambooth` do, and when only some tensors fit: its images would not be those
    of the model that was trained.
    """
    whole = path.is_dir() and (path / UNET).is_dir() and not any((path / name).is_file() for name in PREFERRED)
    found = read_dreambooth(path, base) if whole else read_adapter(path, base)
    if found.ignored:
        raise UserError(
            f"{path}: only {found.applied} of {found.applied + len(found.ignored)} tensors fit base '{base.name}', which has "
            f"no module for {listed(found.ignored)}: give the base it was trained on"
        )
    return found


def model_digest(model: PersonalizedModel) -> str:
    """SHA-256 over all that changes the model's images on a base."""
    found = hashlib.sha256()
    for part in (model.weights or {}, model.replaced):
        for name in sorted(part):
            array = np.ascontiguousarray(part[name].cpu().numpy())
            found.update(f"{name} {array.dtype} {array.shape}".encode())
            found.update(array.tobytes())
    if model.placeholder is not None:
        found.update(f"{model.placeholder.token} for {model.placeholder.words}".encode())
        found.update(model.placeholder.vectors.cpu().numpy().tobytes())
    found.update(repr([(name, x.rank, x.alpha) for name, x in sorted(model.layers.items())]).encode())
    return found.hexdigest()
