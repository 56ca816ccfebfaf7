"""Declared training data: systems and base models that know these people too well, and distractors of another kind."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from iddmbench.attacker import Attacker
from iddmbench.models.recipe import Recipe
from iddmbench.results.findings import FACT, NOTE, WARNING, Finding
from iddmbench.types import Subject


@dataclass(frozen=True)
class PeopleBySource:
    """Whom a run shows to its attackers: dataset -> names of people in it.

    subjects: under test. public: distractors, who calibrate too.
    """

    subjects: Mapping[str, Sequence[str]]
    public: Mapping[str, Sequence[str]]


def foreign(people: PeopleBySource) -> Iterator[Finding]:
    """Distractors and thresholds from another dataset than the subjects."""
    others = sorted(set(people.public) - set(people.subjects))
    if others:
        text = (
            f"distractors and thresholds come from {', '.join(others)}, subjects from {', '.join(people.subjects)}: "
            "the real FAR may differ from the stated one (0.2 to 0.5 % was measured where 1 % is printed), rank 1 is easier"
        )
        yield Finding("foreign", NOTE, "", "", "", text)


def base_training(base: str, recipe: Recipe, people: PeopleBySource) -> Iterator[Finding]:
    """The base model has seen subjects (a warning) or public people (a fact: a known property of the base)."""
    for dataset, names in recipe.trained_on.items():
        seen = [n for n in people.subjects.get(dataset, ()) if not names or n in names]
        if seen:
            text = (
                f"the base model '{base}' was trained on {len(seen)} of the subjects ({dataset}): {', '.join(seen[:5])}"
            )
            yield Finding("trained-on", WARNING, "", "", "", text)
        known = [n for n in people.public.get(dataset, ()) if not names or n in names]
        if known:
            text = f"the base model '{base}' was trained on the distractors ({len(known)} people of {dataset})"
            yield Finding("trained-on", FACT, "", "", "", text)


def gray_base(base: str, recipe: Recipe, subjects: Sequence[Subject]) -> Iterator[Finding]:
    """A base that knows gray photos only, and people whose photos are in colour."""
    if not recipe.grayscale:
        return
    shown = [s for s in subjects if s.references and _in_colour(s.references[0].image)]
    if shown:
        text = (
            f"the base model '{base}' knows gray photos only, but {len(shown)} of {len(subjects)} subjects have photos in "
            "colour: references and outputs are gray, the gallery is in colour, so figures hold for gray outputs; choose a "
            "colour base, or dataset orl"
        )
        yield Finding("gray", NOTE, "", "", "", text)


def _in_colour(image: np.ndarray) -> bool:
    """Whether the channels of uint8 [H, W, 3] differ by more than a camera's or a codec's rounding."""
    return bool(np.ptp(image.astype(int), axis=2).mean() > 3)


def attacker_training(name: str, attacker: Attacker, people: PeopleBySource) -> Iterator[Finding]:
    """The attacker was trained on the subjects' dataset (a warning) or the public people's (a note: they calibrate it)."""
    for dataset in attacker.trained_on_datasets:
        if dataset in people.subjects:
            text = f"{name} declares the subjects' dataset, {dataset}, among its training data: it knows them too well"
            yield Finding("trained-on", WARNING, "", "", name, text)
        elif dataset in people.public:
            text = f"{name} declares the distractors' dataset, {dataset}, among its training data: its threshold is off"
            yield Finding("trained-on", NOTE, "", "", name, text)
