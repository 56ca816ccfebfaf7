"""Evaluates existing images, or models that somebody else trained, with the code that judges a run:
`iddmbench evaluate`, `iddmbench.evaluate`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from iddmbench import __version__
from iddmbench.adaptive import parse
from iddmbench.attacker import ATTACKERS, Attacker
from iddmbench.cells.cell import Cell
from iddmbench.cells.given import GivenStages, UnknownBase, stack
from iddmbench.cells.imported import ImportedStages
from iddmbench.defense import DEFENSES, Defense, configure
from iddmbench.errors import UserError, did_you_mean
from iddmbench.linking.absent import check_attackers
from iddmbench.models.base import BaseModel, open_base
from iddmbench.options import changed_settings
from iddmbench.personalize.read_model import Adapters, models_by_person
from iddmbench.photos.dataset import DATASETS, make_dataset
from iddmbench.photos.given import Given, People, read_people
from iddmbench.results.metric_info import INDEX_VERSION
from iddmbench.results.run_folder import EVALUATION, NEAREST, SCHEMA, make_table, table_file
from iddmbench.run.given_models import Models, models_left_out, notes_of, read_models
from iddmbench.run.outcome import CellResult
from iddmbench.run.pipeline import Progress, measure
from iddmbench.run.plan import protocol
from iddmbench.run.write import opened, write_table
from iddmbench.store.cache import Store, digest
from iddmbench.types import FaceData, Person, Photo, Skipped, Subject

OWN = "own photos"
"""Name of the dataset where the photos are the caller's."""
SHOWN_PEOPLE = 3
"""People of the gallery that are named for an image."""
ROLES = ("adapter", "gallery", "dataset", "public", "references", "baseline", "baseline_adapter", "generic")
FEWEST_PUBLIC = 3
"""As a decoy identity takes."""


@dataclass(frozen=True)
class Request:
    """The request. `iddmbench.evaluate` documents the fields."""

    images: Given | None = None
    gallery: Given | None = None
    dataset: str | None = None
    dataset_options: Mapping[str, Any] | None = None
    public: Given | None = None
    attackers: tuple[str, ...] = ("dlib", "sface")
    references: Given | None = None
    baseline: Given | None = None
    generic: Given | None = None
    white_box: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    base: str | None = None
    name: str = "images"
    strength: float = 1.0
    seed: int = 0
    adapter: Adapters | None = None
    baseline_adapter: Adapters | None = None
    subjects: tuple[str, ...] = ()
    images_per_prompt: int = 4
    sampling: Mapping[str, Any] | None = None
    device: str = "cpu"
    utility: bool = True
    own: Mapping[str, Attacker] = field(default_factory=dict)
    """Attackers by name that are not plugins, or stand in for one."""

    @property
    def makes_images(self) -> bool:
        """Whether there are models to make images with, rather than images alone."""
        return self.adapter is not None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A prepared request. Create one with `Evaluation.of`.

    Attributes:
        cells: one per person and condition, the undefended and the un-personalized condition first.
        skipped: images and photos that can't be used. unenrolled: people without enrolment photos, whose images are not used.
        notes: what a reader should know, one line each.
    """

    request: Request
    stages: GivenStages
    cells: tuple[Cell, ...]
    photos: Mapping[tuple[str, str], tuple[Photo, ...]]
    skipped: tuple[Skipped, ...]
    unenrolled: tuple[Skipped, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, request: Request, cache: Path) -> "Evaluation":
        """Raises UserError if any input can't be used."""
        _check(request)
        data, skipped = _data(request)
        conditions = {"none": request.baseline, "generic": request.generic, request.name: request.images}
        given = {label: read_people(i, _called(label)) for label, i in conditions.items() if i is not None}
        skipped += [entry for people in given.values() for entry in people.skipped]
        models = _models(request)
        unenrolled = (*_left_out(given, data), *models_left_out(models, data))
        notes = [one.reason for one in unenrolled]
        known = {label: given[label].photos if label in given else models.get(label, {}) for label in conditions}
        cells = [
            Cell(subject, defense, request.seed)
            for label in conditions
            if (defense := _condition(label, request))
            for subject in data.subjects
            if subject.name in known[label]
        ]
        if not any(cell.defense.name == request.name for cell in cells):
            people = ", ".join(f"'{name}'" for name in [*known[request.name]][:3])
            what = "adapters" if request.makes_images else "images"
            names = "the names must be the same" if request.makes_images else "the folders' names must be the same"
            raise UserError(f"nobody of the {what} ({people}) has enrolment photos: {names}")
        photos = {
            (c.defense.name, c.subject.name): given[c.defense.name].photos[c.subject.name]
            for c in cells
            if c.defense.name in given
        }
        base = UnknownBase() if request.base is None else open_base(request.base, request.device)
        recipe = base.recipe
        sampling = changed_settings(recipe.sampling, dict(request.sampling or {}), "--sampling")
        prompts = request.prompts or (tuple(recipe.prompts.evaluation) if request.makes_images else ())
        per_prompt = _per_prompt(prompts, photos, request.images_per_prompt if request.makes_images else 0)
        notes += [*_copies(photos, data), *_unmeasured(request, data, cells), *_unknown(request)]
        last: dict[tuple[str, str], np.ndarray] = {}

        def images(cell: Cell) -> np.ndarray:
            place = (cell.defense.name, cell.subject.name)
            if place not in last:
                last.clear()  # one person's images are in memory at a time
                last[place] = stack([photo.image for photo in photos[place]])
            return last[place]

        def pixels(cell: Cell) -> str:
            return digest([photo.digest for photo in photos[cell.defense.name, cell.subject.name]])

        parts = (base, data, Store(cache), recipe.lora, sampling, request.prompts, per_prompt)
        if isinstance(base, BaseModel) and request.makes_images:
            files, told = read_models(models, cells, base)
            made = ImportedStages(files, images, *parts, digest=pixels, judged=request.utility)
            notes += notes_of(told, made)
            return cls(request, made, tuple(cells), photos, tuple(skipped), unenrolled, tuple(notes))
        prompted = bool(request.prompts)
        stages = GivenStages(images, *parts, digest=pixels, prompted=prompted, judged=request.utility)
        return cls(request, stages, tuple(cells), photos, tuple(skipped), unenrolled, tuple(notes))

    def config(self) -> dict[str, Any]:
        """What is written as config.json."""
        request, stages = self.request, self.stages
        names = dict.fromkeys(cell.defense.name for cell in self.cells)
        return {
            "schema": SCHEMA,
            "utility_index": INDEX_VERSION,
            "iddmbench": __version__,
            "kind": EVALUATION,
            "given": [role for role in ROLES if getattr(request, role) is not None],
            "protocol": protocol(stages),
            "dataset": stages.data.name,
            "given_dataset": request.dataset or "",
            "subjects": list(dict.fromkeys(cell.subject.name for cell in self.cells)),
            "base": stages.base.name,
            "defenses": [request.name],
            "defense": request.name,
            "strengths": [request.strength],
            "anchors": "none" in names or "generic" in names,
            "attackers": list(request.attackers),
            "white_box": list(request.white_box),
            "seeds": [request.seed],
            "images_per_prompt": stages.per_prompt,
            "prompts": stages.prompts,
            "personalizer": "somebody else",
            "data_fingerprint": stages.data.fingerprint,
            "base_fingerprint": stages.base.fingerprint,
            "pixels": digest([stages.image_key(cell) for cell in self.cells]),
            "skipped": [
                {"name": s.name, "reason": s.reason} for s in (*stages.data.skipped, *self.skipped, *self.unenrolled)
            ],
            "notes": [
                *self.notes,
                *stages.utility.problems(),
                *(f"left out: {s.name}: {s.reason}" for s in self.skipped),
            ],
            **({"sampling": dict(request.sampling or {})} if request.makes_images else {}),
        }

    def measure(self, out: Path, progress: Progress | None = None) -> list[CellResult]:
        """Write the run folder `out`. Raises UserError if it holds something else."""
        with opened(out, self.config()):
            scoring, outcomes = measure(
                self.cells, self.stages, self.request.attackers, out, progress or Progress(), own=self.request.own
            )
            rows = [row for one in outcomes if one.ok for row in scoring.nearest(one.cell, SHOWN_PEOPLE)]
            write_table(out / table_file(NEAREST), make_table(NEAREST, rows))
        return outcomes


def _check(request: Request) -> None:
    """Raises UserError for what needs no photo to be wrong."""
    if request.gallery is None and request.dataset is None:
        raise UserError("give a gallery (enrolment photos by person), or a dataset that has the people")
    if request.images is None and request.adapter is None:
        raise UserError("give images, or an adapter to generate them")
    _check_models(request)
    if not request.attackers:
        raise UserError("give at least one attacker")
    for name in request.attackers:
        if parse(name) is not None and request.base is None:
            raise UserError(f"attacker '{name}' is adaptive and may need the base model: pass it as base")
    check_attackers(request.attackers, request.own)
    for name in request.white_box:
        if name not in request.own and name.partition(":")[0] not in ATTACKERS.names():
            raise UserError(f"white_box: unknown attacker '{name}': {did_you_mean(name, ATTACKERS.names())}")
    if request.name in ("none", "generic") or not request.name.isprintable() or not request.name.strip():
        raise UserError(f"name {request.name!r}: 'none' and 'generic' are the controls; give a printable name")
    if "/" in request.name or request.name.startswith("."):
        raise UserError(f"name {request.name!r} becomes a folder name: give one without slashes or a leading dot")
    if not 0 <= request.strength <= 1:
        raise UserError(f"strength {request.strength:g} is outside [0, 1]")


def _check_models(request: Request) -> None:
    """Raises UserError for what goes with models alone, and what models need."""
    if request.adapter is None:
        needed = {
            "baseline_adapter": request.baseline_adapter,
            "subject": request.subjects,
            "sampling": request.sampling,
        }
        for name, value in needed.items():
            if value:
                raise UserError(f"{name} goes with an adapter, not with images")
        return
    if request.images is not None:
        raise UserError("give images or an adapter, not both")
    if request.base is None:
        raise UserError(
            "an adapter needs the base model it was trained on: pass it as base (micro, sd15, a folder ...)"
        )
    if request.baseline is not None and request.baseline_adapter is not None:
        raise UserError("give images of the undefended model or its adapter, not both")
    if request.images_per_prompt < 1:
        raise UserError(f"images per prompt: {request.images_per_prompt} is too few, give 1 or more")
    if any(not prompt.strip() for prompt in request.prompts):
        raise UserError("a prompt is empty")


def _called(label: str) -> str:
    return {"none": "undefended images", "generic": "generic images"}.get(label, "images")


def _data(request: Request) -> tuple[FaceData, list[Skipped]]:
    """Subjects with enrolment and reference photos, and public people; and what was left out of the given ones."""
    loaded = None
    if request.dataset is not None:
        options = dict(request.dataset_options or {})
        loaded = make_dataset(DATASETS.get(request.dataset), options).load()
    if loaded is not None and request.gallery is None and request.references is None and request.public is None:
        return loaded, []
    skipped: list[Skipped] = []

    def read(given: Given, what: str) -> People:
        found = read_people(given, what)
        skipped.extend(found.skipped)
        return found

    references = read(request.references, "references").photos if request.references is not None else {}
    if request.gallery is not None:
        enrolled = read(request.gallery, "gallery").photos
        subjects = tuple(Subject(name, references.get(name, ()), photos) for name, photos in enrolled.items())
    else:
        assert loaded is not None
        subjects = tuple(replace(s, references=references.get(s.name, s.references)) for s in loaded.subjects)
    public = loaded.public if loaded is not None else ()
    if request.public is not None:
        public = tuple(Person(name, photos, "public") for name, photos in read(request.public, "public").photos.items())
    if 0 < len(public) < FEWEST_PUBLIC:
        raise UserError(
            f"public: {len(public)} people are too few to set a threshold: give {FEWEST_PUBLIC} or more, or none"
        )
    if len(subjects) + len(public) < 2:
        raise UserError(
            "only one person is enrolled, so a rank means nothing: add people, or a dataset (synthetic, orl)"
        )
    name = loaded.name if loaded is not None and request.gallery is None else OWN
    left = loaded.skipped if loaded is not None and request.gallery is None else ()
    return FaceData(name, subjects, public, left, complete=False), skipped


def _condition(label: str, request: Request) -> Defense:
    """As far as scoring knows it: its name, strength, and the attackers that are white-box for it."""
    if label != request.name:
        return configure(DEFENSES.get(label), {})
    # A plugin says by its registered class whose network it shares; an object of the caller's is asked here.
    same = tuple(name for name, attacker in request.own.items() if attacker.same_as in request.white_box)
    attributes = {
        "__module__": __name__,
        "name": label,
        "title": "given images",
        "surrogates": lambda self: tuple(dict.fromkeys((*request.white_box, *same))),
    }
    return type("GivenImages", (Defense,), attributes)(strength=request.strength)


def _left_out(given: Mapping[str, People], data: FaceData) -> Iterator[Skipped]:
    known = {subject.name for subject in data.subjects}
    for label, people in given.items():
        for name, photos in people.photos.items():
            if name not in known:
                reason = f"no enrolment photos of '{name}': {len(photos)} of the {_called(label)} left out"
                yield Skipped(name, reason)


def _models(request: Request) -> Models:
    """Empty where images are given."""
    if request.adapter is None:
        return {}
    found: Models = {request.name: {**models_by_person(request.adapter, request.subjects)}}
    if request.baseline_adapter is not None:
        found["none"] = {**models_by_person(request.baseline_adapter, request.subjects, "undefended adapter")}
    if request.generic is None:
        found["generic"] = dict.fromkeys(found[request.name])
    return found


def _per_prompt(prompts: Sequence[str], photos: Mapping[tuple[str, str], tuple[Photo, ...]], of_models: int = 0) -> int:
    """Images per prompt; of images without prompts, the most that a person has.

    of_models: as many as models make; 0 where there are none. Raises UserError for numbers that differ.
    """
    counts = {place: len(several) for place, several in photos.items()}
    if of_models:
        for (_, person), count in counts.items():
            if count != len(prompts) * of_models:
                raise UserError(
                    f"{count} images of '{person}' beside models that make {len(prompts) * of_models}: give as many, "
                    f"{of_models} of each of {len(prompts)} prompts, in order"
                )
        return of_models
    if not prompts:
        return max(counts.values())
    first = next(iter(counts.values()))
    for (_, person), count in counts.items():
        if count % len(prompts) or count != first:
            raise UserError(
                f"{count} images of '{person}' are not the same number for each of {len(prompts)} prompts and everybody: "
                "give as many images of each, in the prompts' order, or leave the prompts out"
            )
    return first // len(prompts)


def _copies(photos: Mapping[tuple[str, str], tuple[Photo, ...]], data: FaceData) -> Iterator[str]:
    """Images that are somebody's photo, pixel by pixel."""
    known: dict[str, str] = {}
    for subject in data.subjects:
        for role, several in (("enrolment", subject.enrolment), ("reference", subject.references)):
            for photo in several:
                known.setdefault(photo.digest, f"{role} photo {photo.name} of '{subject.name}'")
    for person in data.public:
        for photo in person.photos:
            known.setdefault(photo.digest, f"photo {photo.name} of a public person")
    for several in photos.values():
        for photo in several:
            if photo.digest in known:
                yield f"image {photo.name} is a copy of {known[photo.digest]}: it says nothing about linkage"


def _unknown(request: Request) -> Iterator[str]:
    """What the command in the report can't name."""
    for name in request.own:
        if name not in ATTACKERS.names():
            yield f"attacker '{name}' was given as an object and is not an installed plugin: no command can name it"


def _unmeasured(request: Request, data: FaceData, cells: Sequence[Cell]) -> Iterator[str]:
    if not data.public:
        yield "no public people, so no threshold: figures at a false accept rate are not measured"
    if not request.utility:
        yield "utility is not measured: --no-utility"
        return
    subjects = {cell.subject.name: cell.subject for cell in cells}
    if missing := [name for name, subject in subjects.items() if not subject.references]:
        names = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        yield f"no reference photos of {names}: their closeness is not measured, and FID and KID exclude them"
    if not {"none", "generic"} <= {cell.defense.name for cell in cells}:
        yield "the utility index needs images of the undefended and of the un-personalized model: not measured"
    if len(subjects) == 1:
        yield f"images of one person only ({next(iter(subjects))}): no interval holds for other people"
