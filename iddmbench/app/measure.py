"""What the page shows of one evaluation. Every figure is of `iddmbench.evaluate`; here it is put into rows and words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from iddmbench.api import evaluate, load_dataset
from iddmbench.errors import UserError

PERSON = "this person"
COLUMNS = (
    "Picture",
    "Attacker",
    "Linked",
    "Place of the person",
    "Score to the person",
    "Score to the nearest other",
    "Threshold (FAR 1 %)",
    "Above the threshold",
    "Nearest people in the gallery",
)
EXAMPLE, OTHER = "s01", "s02"
"""People of the dataset `synthetic`: they do not exist."""


@dataclass(frozen=True)
class Answer:
    """sentences: one per attacker, then what a reader should know. rows: by picture and attacker, as COLUMNS."""

    sentences: list[str]
    rows: list[list[str]]


def answer(
    photos: Sequence[str] | None,
    pictures: Sequence[str] | None,
    dataset: str,
    attackers: Sequence[str],
    cache: Path | None = None,
) -> Answer:
    """Who links the pictures to the person of the photos.

    Args:
        photos, pictures: files; the photos are enrolled in a gallery, beside the public people of the dataset.
        dataset: whose public people also set the thresholds.
        cache: folder of stage results, what the systems computed from the faces included; None: the user's.

    Raises UserError when something is missing, or as `iddmbench.evaluate` does.
    """
    if not photos:
        raise UserError("add at least one photo of the person")
    if not pictures:
        raise UserError("add at least one picture to test")
    if not attackers:
        raise UserError("choose at least one attacker")
    result = evaluate(
        {PERSON: [Path(p) for p in pictures]},
        {PERSON: [Path(p) for p in photos]},
        dataset=dataset,
        attackers=list(attackers),
        utility=False,
        cache=cache,
    )
    calibration = result.folder.calibration
    at = calibration[np.isclose(calibration["far"], 1e-2)]
    thresholds = dict(zip(at["attacker"].astype(str), at["threshold"].astype(float), strict=True))
    probes, sentences, rows = result.probes, [], []
    nearest = {
        key: "; ".join(f"{shown_person(r['source'], r['person'])} {r['score']:.3f}" for r in people.to_dict("records"))
        for key, people in result.nearest.sort_values("place").groupby(["attacker", "image"])
    }
    for attacker in result.attackers:
        own = probes[probes["attacker"] == attacker].sort_values("index")
        known = attacker in thresholds
        linked, matched = int((own["rank"] == 1).sum()), int(own["match_1e-2"].fillna(False).astype(bool).sum())
        lost = int((~own["acquired"]).sum())
        text = f"{attacker} names this person first for {linked} of {len(own)} pictures"
        text += f", and is sure enough to call {matched} of them a match (FAR 1 %)" if known else ""
        sentences.append(f"{text}; it finds no face in {lost}." if lost else f"{text}.")
        for row in own.to_dict("records"):
            name = Path(str(list(pictures)[int(row["index"])])).name if int(row["index"]) < len(pictures) else "–"
            if not row["acquired"]:
                rows.append([name, attacker, "no face found", *["–"] * 6])
                continue
            threshold = f"{thresholds[attacker]:.3f}" if known else "–"
            above = ("yes" if row["match_1e-2"] else "no") if known else "–"
            scores = [f"{row[k]:.3f}" for k in ("mated", "nonmated")]
            first = "yes" if row["rank"] == 1 else "no"
            people = nearest.get((attacker, str(row["image"])), "–")
            rows.append([name, attacker, first, str(row["rank"]), *scores, threshold, above, people])
    return Answer([*sentences, *(note for note in result.notes if "--no-utility" not in note)], rows)


def shown_person(source: str, person: str) -> str:
    """Strangers by the dataset and their name in it: "orl s12"."""
    return person if person == PERSON else f"{source} {person}"


def example(folder: Path) -> tuple[list[str], list[str]]:
    """Photos of a person, and pictures: two of the same person and two of another. Nobody in them exists."""
    subjects = {s.name: s for s in load_dataset("synthetic").subjects}
    first, second = subjects[EXAMPLE], subjects[OTHER]
    chosen = {
        "photo": first.enrolment[:3],
        "picture-same": first.references[:2],
        "picture-other": second.enrolment[:2],
    }
    paths: dict[str, list[str]] = {}
    for name, photos in chosen.items():
        for i, photo in enumerate(photos, 1):
            path = folder / f"{name}-{i}.png"
            Image.fromarray(photo.image).save(path)
            paths.setdefault(name, []).append(str(path))
    return paths["photo"], [*paths["picture-same"], *paths["picture-other"]]
