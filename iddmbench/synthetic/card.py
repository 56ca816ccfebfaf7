"""The dataset's card (README.md) and its Croissant description, from its table and what was counted on the way."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from iddmbench.photos.demographics import AGE_BANDS, TONE_BANDS, tone_group
from iddmbench.synthetic.draws import OTHER, OWN, READ_SIDE
from iddmbench.synthetic.pack import ARCHIVES, CHECKSUMS, QUALITY, TABLE, Row
from iddmbench.synthetic.people import SAME
from iddmbench.synthetic.responsible import CONFORMS, RAI, statements
from iddmbench.synthetic.select import DUPLICATE, YOUNGEST

LICENCE = (
    "Non-commercial research only. The pictures were made by MobileStyleGAN (package random-face 2021.7.21.1, whose files say "
    "Apache-2.0), distilled from StyleGAN2 (Nvidia Source Code License-NC) trained on FFHQ (CC BY-NC-SA 4.0)."
)
CROISSANT = "croissant.json"


def write_card(
    folder: Path,
    table: Sequence[Row],
    candidates: int,
    dropped: Mapping[str, int],
    kept: Mapping[str, float],
    measured: Mapping[str, Mapping[str, float]],
) -> None:
    """Write README.md, from the text in card.md.

    Args:
        dropped: rejected candidates by reason.
        kept: share of the drawn photos that were kept, by split.
        measured: what `measure` wrote, by system.
    """
    people = {row.person: row for row in reversed(table)}  # the first photo of each
    roles = []
    for role, use in (("subject", "4 reference, 4 enrolment, 4 surrogate"), ("public", "gallery, calibration")):
        count = sum(row.role == role for row in people.values())
        photos = sum(row.role == role for row in table)
        roles.append(f"| {role} | {count} | {photos // max(count, 1)} | {use} |")
    lines = [
        f"| {name} | {m['rank1']:.1%} | {m['eer']:.1%} | {m['tar']:.1%} | {m['found']:.1%} |"
        for name, m in measured.items()
    ]
    text = (
        (files("iddmbench.synthetic") / "card.md")
        .read_text(encoding="utf-8")
        .format(
            people=len(people),
            photos=len(table),
            side=READ_SIDE,
            quality=QUALITY,
            roles="\n".join(roles),
            tuning=sum(row.tuning for row in people.values()),
            own=OWN,
            other=OTHER,
            same=SAME,
            duplicate=DUPLICATE,
            youngest=YOUNGEST,
            candidates=candidates,
            dropped=", ".join(f"{reason} {count / candidates:.0%}" for reason, count in dropped.items() if count),
            kept=", ".join(f"{split} {share:.0%}" for split, share in kept.items()),
            demographics=demographics(list(people.values())),
            probes=next((int(m["probes"]) for m in measured.values()), 0),
            pairs=next((int(m["pairs"]) for m in measured.values()), 0),
            measured="\n".join(lines),
            licence=LICENCE,
        )
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def demographics(people: Sequence[Row]) -> str:
    """A Markdown table: people by role and sex, age band and tone band, of their first photos."""
    bands = [f"{low}-{high - 1}" for low, high in pairwise(AGE_BANDS)]
    tones = [name for _, name in TONE_BANDS]
    head = ["role", "sex", "people", *(f"{b} years" for b in bands), *tones]
    rows = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for role in ARCHIVES:
        for sex in ("female", "male"):
            group = [row for row in people if row.role == role and row.sex == sex]
            ages = Counter(bands[int(np.searchsorted(AGE_BANDS, row.age, "right")) - 1] for row in group)
            skin = Counter(tone_group(row.tone) for row in group)
            cells = [role, sex, len(group), *(ages[b] for b in bands), *(skin[t] for t in tones)]
            rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows)


def write_croissant(folder: Path, version: str) -> None:
    """Write the Croissant 1.0 description (MLCommons), from the checksums that stand in the folder."""
    lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    kinds = {name: "application/zip" for name in ARCHIVES.values()} | {TABLE: "text/csv"}
    described: list[dict[str, Any]] = [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name,
            "encodingFormat": kind,
            "contentSize": f"{(folder / name).stat().st_size} B",
            "sha256": sums[name],
        }
        for name, kind in kinds.items()
    ]
    described += [
        {
            "@type": "cr:FileSet",
            "@id": f"{role}-pictures",
            "containedIn": {"@id": name},
            "encodingFormat": "image/webp",
            "includes": "*/*.webp",
        }
        for role, name in ARCHIVES.items()
    ]
    types = {"tuning": "sc:Boolean", **dict.fromkeys(("age", "tone", "yaw", "smile", "referee"), "sc:Float")}
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"photos/{column}",
            "name": column,
            "dataType": types.get(column, "sc:Text"),
            "source": {"fileObject": {"@id": TABLE}, "extract": {"column": column}},
        }
        for column in Row.__dataclass_fields__
    ]
    context = {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "dct": "http://purl.org/dc/terms/",
        "rai": RAI,
        "conformsTo": "dct:conformsTo",
        **{
            word: f"cr:{word}"
            for word in (
                *(
                    "citeAs",
                    "column",
                    "containedIn",
                    "equivalentProperty",
                    "extract",
                    "field",
                    "fileObject",
                    "fileProperty",
                ),
                *("fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path"),
                *("recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator", "source"),
                *("subField", "transform"),
            )
        },
        **{word: {"@id": f"cr:{word}", "@type": "@json"} for word in ("data", "examples")},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    }
    text = {
        "@context": context,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", CONFORMS],
        "name": "iddmbench-synthetic",
        "description": "Generated people in colour for measuring identity linkability; no person depicted is real.",
        "license": LICENCE,
        "creator": {"@type": "sc:Organization", "name": "IDDM-Bench developers"},
        "citeAs": "IDDM-Bench developers: the dataset `synthetic` of IDDM-Bench, version " + version,
        "keywords": ["face recognition", "generated faces", "privacy", "identity linkability"],
        "isLiveDataset": False,
        "version": version,
        "url": "README.md",
        **statements(),
        "distribution": described,
        "recordSet": [{"@type": "cr:RecordSet", "@id": "photos", "name": "photos", "field": fields}],
    }
    (folder / CROISSANT).write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
