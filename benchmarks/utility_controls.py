"""The utility index on controls whose order is known: `python benchmarks/utility_controls.py RUN > table.md`.

The run's undefended images are degraded (noise, blur, pixelation) and swapped between people; the run's other conditions stand
beside them. Printed: each figure by condition, the index with its 95 % interval and half-width over people, which of the
expected orders hold, and how the two candidates for a closeness without identity do on real photos: the share of pairs in which
a photo is nearer to its own person's references than to another's (0.5: no identity is left).
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from iddmbench.cells.cell import Cell, Outputs
from iddmbench.cells.given import GivenStages
from iddmbench.defense import DEFENSES, configure
from iddmbench.faces.look import LOOK, looks
from iddmbench.linking.aggregate import Group, Scored, summarize_group
from iddmbench.metrics.utility import closeness
from iddmbench.photos.references import crop_photo
from iddmbench.results.metric_info import ERASED, INDEX, KEPT_LOOK, REALISM, USABLE
from iddmbench.results.run_folder import RunFolder
from iddmbench.run.config import make_config
from iddmbench.run.plan import RunPlan
from iddmbench.seeds import Seeds
from iddmbench.store.cache import default_cache
from iddmbench.types import Subject

SHOWN = (USABLE, REALISM, KEPT_LOOK, "adherence", ERASED, "ser_fiq")
ORDERS = (
    ("undefended", "noise 5", INDEX),
    ("noise 5", "noise 10", INDEX),
    ("noise 10", "noise 20", INDEX),
    ("undefended", "blur 0.5", INDEX),
    ("blur 0.5", "blur 1", INDEX),
    ("blur 1", "blur 2", INDEX),
    ("undefended", "pixels 2", INDEX),
    ("undefended", "another person's", INDEX),
    ("undefended", "another person's", KEPT_LOOK),
    ("another person's", "un-personalized", KEPT_LOOK),
    ("blur 1", "un-personalized", KEPT_LOOK),
    ("un-personalized", "blur 1", REALISM),
)
"""First above second in that figure. Of the last kind: the un-personalized model is lowest in closeness, but not in quality."""


@dataclass(frozen=True)
class Control:
    """A condition: images uint8 [N, S, S, 3] by person."""

    title: str
    images: Mapping[str, np.ndarray]

    def of(self, cell: Cell) -> np.ndarray:
        return self.images[cell.subject.name]


def degraded(undefended: Mapping[str, np.ndarray]) -> Iterable[Control]:
    """What is done to outputs, weak to strong."""

    def each(title: str, change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Control:
        rng = Seeds(0).child("controls", title).numpy()
        return Control(title, {name: change(images, rng) for name, images in undefended.items()})

    def noise(level: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
        return lambda x, rng: np.clip(x + level * rng.normal(size=(*x.shape[:3], 1)), 0, 255).round().astype(np.uint8)

    def blur(sigma: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
        return lambda x, rng: np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in x])

    def pixels(size: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
        def change(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            side = x.shape[1]
            small = [cv2.resize(i, (side // size, side // size), interpolation=cv2.INTER_AREA) for i in x]
            return np.stack([cv2.resize(i, (side, side), interpolation=cv2.INTER_NEAREST) for i in small])

        return change

    yield from (each(f"noise {level}", noise(level)) for level in (5, 10, 20))
    yield from (each(f"blur {sigma:g}", blur(sigma)) for sigma in (0.5, 1, 2))
    yield each("pixels 2", pixels(2))


def swapped(undefended: Mapping[str, np.ndarray]) -> Control:
    """Each person gets the next one's outputs."""
    names = list(undefended)
    return Control("another person's", {name: undefended[names[i - 1]] for i, name in enumerate(names)})


def measured(control: Control, stages: GivenStages, subjects: Sequence[Subject], prompts: list[str]) -> Group:
    cells = {}
    for subject in subjects:
        cell = Cell(subject, configure(DEFENSES.get("none"), {}), 0)
        images = control.images[subject.name]
        key = {**stages.image_key(cell), "control": control.title}
        outputs = Outputs(images, prompts, key, {}, {})
        cells[subject.name] = [Scored(cell, {}, stages.utility.measure(subject, outputs), prompts=prompts)]
    return Group(control.title, math.nan, (), cells, 0)


def figures(group: Group, anchors: Mapping[str, Group]) -> dict[str, tuple[float, float, float]]:
    rows = summarize_group(group, [], [], anchors, np.zeros((0, 1280)))
    return {row["metric"]: (row["value"], row["low"], row["high"]) for row in rows}


def without_identity(stages: GivenStages, subjects: Sequence[Subject]) -> Iterable[str]:
    """Candidates on enrolment photos, which are real, of people whom nothing was fitted on."""
    detector, public = stages.crops.detector, stages.utility.public
    photos = {
        s.name: np.stack([c for p in s.enrolment if (c := crop_photo(p, stages.base, detector)) is not None])
        for s in subjects
    }
    features = {name: stages.utility.features(images) for name, images in photos.items()}
    shown = {name: looks(images, detector.detect(list(images))) for name, images in photos.items()}
    references = {s.name: stages.utility.reference_features(s) for s in subjects}
    before = {}
    for s in subjects:
        own = stages.crops.references(s)
        before[s.name] = looks(own, detector.detect(list(own)))
    mean = public.features.mean(0)
    candidates: dict[str, Callable[[str, str], np.ndarray]] = {
        "raw cosine (version 1)": lambda a, b: closeness(features[a], references[b]),
        "cosine, centred": lambda a, b: closeness(features[a] - mean, (references[b] - mean).mean(0, keepdims=True)),
        "LEACE of whose photo it is": lambda a, b: public.closeness_without_identity(features[a], references[b]),
        "kept look": lambda a, b: public.kept_look(shown[a], before[b], np.ones((len(shown[a]), len(LOOK)), bool)),
    }
    yield "| closeness | own references | another's | own nearer |\n|---|---|---|---|"
    for title, score in candidates.items():
        table = {(a, b): score(a, b) for a in photos for b in photos}
        own = np.concatenate([table[a, a] for a in photos])
        others = np.concatenate([table[a, b] for a in photos for b in photos if a != b])
        wins = [(table[a, a] > table[a, b]).mean() for a in photos for b in photos if a != b]
        yield f"| {title} | {own.mean():.3f} | {others.mean():.3f} | {np.mean(wins):.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every so many images of a person")
    asked = parser.parse_args()
    run = RunFolder.open(asked.run)
    config = make_config({key: run.config[key] for key in ("dataset", "base", "subjects")} | {"defenses": ["none"]})
    study = RunPlan.of(config, default_cache())
    frame = run.images[run.images["defense"] == "none"]
    prompts = list(frame[frame["subject"] == frame["subject"].iloc[0]]["prompt"])[:: asked.every]

    def images(condition: str) -> dict[str, np.ndarray]:
        return {s.name: np.stack(run.pictures("images", condition, s.name)[:: asked.every]) for s in study.subjects}

    undefended = images("none")
    base, data = study.stages.base, study.stages.data
    controls = [Control("undefended", undefended), *degraded(undefended), swapped(undefended)]
    controls += [Control("un-personalized", images("generic"))]
    others = [c for c in run.subfolders("images") if c not in ("none", "generic")]
    controls += [Control(c, images(c)) for c in others]
    groups = {}
    for control in controls:
        parts = (base, data, study.stages.store, study.stages.lora, study.stages.sampling, tuple(prompts), 1)
        stages = GivenStages(control.of, *parts)
        groups[control.title] = measured(control, stages, study.subjects, prompts)
        print(control.title, file=sys.stderr)
    anchors = {
        "none": replace(groups["undefended"], defense="none"),
        "generic": replace(groups["un-personalized"], defense="generic"),
    }
    found = {title: figures(group, anchors) for title, group in groups.items()}
    print("| condition | " + " | ".join(SHOWN) + " | index | half-width |\n|---|" + "---|" * (len(SHOWN) + 2))
    for title, row in found.items():
        value, low, high = row[INDEX]
        shown = " | ".join(f"{row[name][0]:.3f}" for name in SHOWN)
        print(f"| {title} | {shown} | {value:.2f} [{low:.2f}-{high:.2f}] | {(high - low) / 2:.2f} |")
    print("\n| expected above | below | in | holds |\n|---|---|---|---|")
    for above, below, name in ORDERS:
        holds = found[above][name][0] > found[below][name][0]
        print(f"| {above} | {below} | {name} | {'yes' if holds else 'NO'} |")
    print()
    print("\n".join(without_identity(stages, study.subjects)))


if __name__ == "__main__":
    main()
