"""The dataset's files: two zips of WebP pictures, a table of all photos, and their checksums."""

import csv
import hashlib
import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from PIL import Image

from iddmbench.faces.attributes import mouth_whiteness
from iddmbench.photos.references import resize
from iddmbench.synthetic.blocks import Block
from iddmbench.synthetic.draws import READ_SIDE
from iddmbench.synthetic.people import SPLITS
from iddmbench.types import pixel_digest

QUALITY = 92
EPOCH = (1980, 1, 1, 0, 0, 0)
ARCHIVES = {"subject": "subjects.zip", "public": "public.zip"}
TABLE = "photos.csv"
CHECKSUMS = "SHA256SUMS"
TUNING_EVERY = 5
"""Every fifth subject is one on whom settings are chosen."""


@dataclass(frozen=True)
class Row:
    """One photo in the table.

    Attributes:
        person: name, unique in the dataset.
        role: "subject" or "public".
        file: name inside the role's zip.
        split: "reference", "enrolment" or "surrogate" of a subject, "public" else.
        tuning: 1 for subjects on whom settings are chosen, 0 for those on whom results are reported, and for public people.
        sex: "female" or "male", of the person, as faceres reads the first photo.
        age: years, as faceres reads this photo.
        tone: individual typology angle of the cheeks, degrees.
        yaw: as in `readings.Reading`.
        smile: `mouth_whiteness`; above 1.12 teeth show.
        referee: cosine to the person's first photo under the referee.
        draw: the draw that it came from: candidate, split, attempt (-1: first photo), end and start of mixed-in layers.
        pixels: `pixel_digest` of the decoded picture, so that nobody needs to decode all of them to tell whether they changed.
    """

    person: str
    role: str
    file: str
    split: str
    tuning: int
    sex: str
    age: float
    tone: float
    yaw: float
    smile: float
    referee: float
    draw: str
    pixels: str = ""


def rows_of(name: str, role: str, tuning: bool, photos: Block) -> list[Row]:
    """The table's rows of one person, in the order of `photos`, the first of which is the person's first photo."""
    v = photos.values
    names = list(SPLITS) if role == "subject" else ["public"]
    rows, counts = [], dict.fromkeys(names, 0)
    for k in range(len(photos)):
        split = names[photos.draws[k, 1]]
        counts[split] += 1
        age, tone, yaw = (round(float(v[key][k]), 3) for key in ("age", "tone", "yaw"))
        smile = mouth_whiteness(photos.photos[k], v["landmarks"][k] * photos.photos.shape[1] - 0.5)
        rows.append(
            Row(
                person=name,
                role=role,
                file=f"{name}/{split}-{counts[split]}.webp",
                split=split,
                tuning=int(tuning),
                sex="male" if v["male"][0] > 0.5 else "female",
                age=age,
                tone=tone,
                yaw=yaw,
                smile=round(smile, 3),
                referee=round(float(v["embedding"][k] @ v["embedding"][0]), 3),
                draw=" ".join(str(x) for x in photos.draws[k]),
            )
        )
    return rows


def webp(photo: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(photo).save(out, "WEBP", quality=QUALITY, method=6)
    return out.getvalue()


def decode(packed: bytes) -> np.ndarray:
    """uint8 [S, S, 3]. Raises OSError if the bytes are not an image."""
    with Image.open(io.BytesIO(packed)) as image:
        return np.asarray(image.convert("RGB"))


def write(folder: Path, people: Iterable[tuple[list[Row], Block]]) -> list[Row]:
    """Write zips, table and checksums into `folder`; the same people give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    archives = {role: zipfile.ZipFile(folder / name, "w") for role, name in ARCHIVES.items()}
    table: list[Row] = []
    for rows, photos in people:
        for row, photo in zip(rows, photos.photos, strict=True):
            packed = webp(resize(photo, READ_SIDE))
            archives[row.role].writestr(zipfile.ZipInfo(row.file, EPOCH), packed)
            table.append(replace(row, pixels=pixel_digest(decode(packed))))
    for archive in archives.values():
        archive.close()
    write_table(folder / TABLE, table)
    sums = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name in (*ARCHIVES.values(), TABLE)
    ]
    (folder / CHECKSUMS).write_text("\n".join(sums) + "\n", encoding="utf-8")
    return table


def write_table(path: Path, table: Sequence[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in table)
