"""The utility index on pictures whose order is known: real photos of people whom no table reports, in place of outputs."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from iddmbench.cells.cell import Cell, Outputs
from iddmbench.cells.given import GivenStages, UnknownBase
from iddmbench.datasets.orl import ORL
from iddmbench.defense import DEFENSES, configure
from iddmbench.faces.detect import YuNet
from iddmbench.linking.aggregate import Group, Scored, summarize_group
from iddmbench.models.recipe import LoraSettings, Recipe, Sampling
from iddmbench.photos.references import crop_photo
from iddmbench.results.metric_info import INDEX, KEPT_LOOK, REALISM, USABLE
from iddmbench.store.cache import Store
from iddmbench.types import FaceData, Person, Subject

PROMPT = "a photo of sks person"


def subject(person: Person) -> Subject:
    return Subject(person.name, person.photos[:2], person.photos[4:5])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Figures by control: photos of the person as the undefended model's outputs, a stranger's as the un-personalized one's."""
    people = ORL().load().public
    subjects = [subject(person) for person in people[:3]]
    public = tuple(replace(person, photos=person.photos[:2]) for person in people[3:11])
    base = UnknownBase(side=64, recipe=Recipe.model_validate({"grayscale": True, "frame": 1.2}))
    crops = [[crop_photo(p, base, YuNet()) for p in person.photos[2:4]] for person in (*people[:3], people[11])]
    own = {s.name: np.stack(c) for s, c in zip(subjects, crops, strict=False)}
    noise = np.random.default_rng(0).normal(size=(2, 64, 64, 1))
    controls = {
        "none": own,
        "generic": {s.name: np.stack(crops[-1]) for s in subjects},
        "swapped": {s.name: own[subjects[i - 1].name] for i, s in enumerate(subjects)},
        "noisy": {n: np.clip(x + 8 * noise, 0, 255).astype(np.uint8) for n, x in own.items()},
        "blurred": {n: np.stack([cv2.GaussianBlur(i, (0, 0), 1) for i in x]) for n, x in own.items()},
        "gone": {n: np.zeros_like(x) for n, x in own.items()},
    }
    data = FaceData("orl", tuple(subjects), public)
    store = Store(tmp_path_factory.mktemp("cache"))
    groups = {}
    for name, images in controls.items():
        cells = {}
        stages = GivenStages(
            lambda c, i=images: i[c.subject.name], base, data, store, LoraSettings(), Sampling(), (PROMPT,), 2
        )
        for s in subjects:
            cell = Cell(s, configure(DEFENSES.get("none"), {}), 0)
            outputs = Outputs(images[s.name], [PROMPT] * 2, {**stages.image_key(cell), "control": name}, {}, {})
            cells[s.name] = [Scored(cell, {}, stages.utility.measure(s, outputs))]
        groups[name] = Group(name, math.nan, (), cells, 0)
    real = np.zeros((0, 1280))
    return {
        name: {row["metric"]: row["value"] for row in summarize_group(group, [], [], groups, real)}
        for name, group in groups.items()
    }


def test_degraded_pictures_are_worth_less(found: dict[str, dict[str, float]]) -> None:
    assert found["none"][INDEX] == 1
    for control in ("noisy", "blurred"):
        assert found[control][INDEX] < 0.9 and found[control][REALISM] < found["none"][REALISM] - 0.1
    assert found["gone"][INDEX] == 0 and found["gone"][USABLE] == 0 and found["gone"][KEPT_LOOK] == 0


def test_somebody_elses_pictures_are_worth_little_though_they_are_good(found: dict[str, dict[str, float]]) -> None:
    for control in ("swapped", "generic"):
        assert found[control][KEPT_LOOK] < found["none"][KEPT_LOOK] - 0.3
        assert found[control][INDEX] < 0.6 and found[control][USABLE] == 1
        assert found[control][REALISM] > found["blurred"][REALISM]
    assert found["generic"][INDEX] == 0
