"""The embedded colour dataset: its split, its files, its choice of people."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from iddmbench.datasets.synthetic import Synthetic
from iddmbench.errors import UserError
from iddmbench.photos.dataset import DATASETS
from iddmbench.run.config import make_config
from iddmbench.synthetic import select
from iddmbench.synthetic.blocks import Block, joined, load, save, stack
from iddmbench.synthetic.card import write_croissant
from iddmbench.synthetic.generator import LAYERS, mixed
from iddmbench.synthetic.pack import ARCHIVES, CHECKSUMS, TABLE, rows_of, write
from iddmbench.synthetic.readings import Reading, skin_tone


def reading(rng: np.random.Generator, male: float = 0.9, age: float = 30, **others: object) -> Reading:
    vector = rng.standard_normal(512).astype(np.float32)
    values: dict = {"sharpness": 300.0, "tone": 50.0, "yaw": 0.0, **others}
    return Reading(
        True,
        vector / np.linalg.norm(vector),
        np.zeros((5, 2), np.float32),
        np.zeros(4, np.float32),
        age=age,
        male=male,
        **values,
    )


def block(readings: list[Reading], columns: int = 1) -> Block:
    rng = np.random.default_rng(0)
    photos = list(rng.integers(0, 255, (len(readings), 32, 32, 3), np.uint8))
    return stack(photos, [(k,) * columns for k in range(len(readings))], readings)


# ---- the shipped files ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return Synthetic().load()


@pytest.mark.slow
def test_the_split_is_the_protocols(data) -> None:
    assert DATASETS.get("synthetic") is Synthetic
    assert [s.name for s in data.subjects] == [f"s{k:02d}" for k in range(1, 61)]
    assert [p.name for p in data.public] == [f"p{k:03d}" for k in range(1, 241)]
    assert all(len(s.references) == len(s.enrolment) == len(s.surrogate) == 4 for s in data.subjects)
    assert all(len(person.photos) == 6 for person in data.public)
    photos = [p for s in data.subjects for p in (*s.references, *s.enrolment, *s.surrogate)]
    photos += [p for person in data.public for p in person.photos]
    assert len({p.name for p in photos}) == len(photos) == 2160
    assert {p.image.shape for p in photos} == {(160, 160, 3)}
    assert len({p.image.tobytes() for p in photos}) == 2160


def test_subjects_to_tune_on_and_to_report_on_share_nobody() -> None:
    tuning, report = (Synthetic(part=part).load() for part in ("tuning", "report"))
    names = [{s.name for s in d.subjects} for d in (tuning, report)]
    assert [len(n) for n in names] == [12, 48] and not names[0] & names[1]
    for part, own, others in ((tuning, names[0], names[1]), (report, names[1], names[0])):
        public = {person.name for person in part.public}
        assert others < public and not own & public
        assert len(part.subjects) + len(part.public) == 300
    with pytest.raises(UserError, match="part is all, tuning or report"):
        Synthetic(part="both")  # type: ignore[arg-type]


def test_the_table_says_what_the_card_promises() -> None:
    rows = Synthetic().table()
    people = {row["person"]: row for row in reversed(rows)}
    for role in ARCHIVES:
        sexes = Counter(row["sex"] for row in people.values() if row["role"] == role)
        assert min(sexes.values()) >= 0.45 * sum(sexes.values())
    assert all(float(row["age"]) >= 20 for row in rows)
    assert all(float(row["age"]) >= select.YOUNGEST for row in people.values())
    assert all(float(row["referee"]) >= 0.5 for row in rows)  # rounded
    left_out = select.listed("excluded.txt").keys() | select.listed("excluded_people.txt").keys()
    assert not left_out & {int(row["draw"].split()[0]) for row in rows}
    size = sum(path.stat().st_size for path in Synthetic().root.iterdir())
    assert size <= 16e6


def test_enough_impostor_pairs_for_a_far_of_1e_3(data) -> None:
    counts = np.array([len(person.photos) for person in data.public])
    pairs = (counts.sum() ** 2 - (counts**2).sum()) // 2
    assert pairs >= 10_000


RAI_FIELDS = {
    *(
        "dataCollection",
        "dataCollectionType",
        "dataCollectionRawData",
        "dataCollectionMissingData",
        "dataManipulationProtocol",
    ),
    *("dataImputationProtocol", "dataPreprocessingProtocol", "dataAnnotationProtocol", "machineAnnotationTools"),
    *("annotationsPerItem", "dataAnnotationAnalysis", "dataUseCases", "dataLimitations", "dataBiases"),
    *("personalSensitiveInformation", "dataSocialImpact", "dataReleaseMaintenancePlan"),
}
"""Of the vocabulary's twenty all but the annotators' demographics and platform, as no person annotated, and the time frame."""


def test_the_shipped_croissant_file_is_what_the_builder_writes(tmp_path: Path) -> None:
    shutil.copytree(Synthetic().root, tmp_path / "data")
    shipped = (tmp_path / "data" / "croissant.json").read_text()
    write_croissant(tmp_path / "data", json.loads(shipped)["version"])
    assert (tmp_path / "data" / "croissant.json").read_text() == shipped


def test_the_croissant_file_states_responsible_use() -> None:
    text = json.loads((Synthetic().root / "croissant.json").read_text())
    assert {name.removeprefix("rai:") for name in text if name.startswith("rai:")} == RAI_FIELDS
    assert text["rai:personalSensitiveInformation"] and text["rai:dataBiases"] and text["@context"]["rai"]
    assert "http://mlcommons.org/croissant/RAI/1.0" in text["conformsTo"]


def test_the_croissant_file_matches_the_files() -> None:
    root = Synthetic().root
    text = json.loads((root / "croissant.json").read_text())
    sums = dict(line.split("  ")[::-1] for line in (root / CHECKSUMS).read_text().splitlines())
    stated = {f["@id"]: f["sha256"] for f in text["distribution"] if f["@type"] == "cr:FileObject"}
    assert stated == sums
    with (root / TABLE).open() as file:
        columns = next(csv.reader(file))
    assert [f["name"] for f in text["recordSet"][0]["field"]] == columns


# ---- bad files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["subjects.zip", "public.zip", "photos.csv", "SHA256SUMS"])
def test_missing_and_damaged_files_are_named(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write(tmp_path, people(rng))
    assert len(Synthetic(root=tmp_path).load().subjects) == 1
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[:-40] + b"\0" * 40)
    named = "" if name == CHECKSUMS else name  # a checksum is of one of the others
    with pytest.raises(UserError, match=f"{named}.*install iddmbench again") as caught:
        Synthetic(root=tmp_path).load()
    assert "\n" not in str(caught.value)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=name):
        Synthetic(root=tmp_path).load()


def people(rng: np.random.Generator):
    def photos(splits: list[int]) -> Block:
        made = block([reading(rng) for _ in splits], columns=5)
        return Block(made.photos, np.array([[7, split, k - 1, 2, 23] for k, split in enumerate(splits)]), made.values)

    subject, public = photos([0] * 4 + [1] * 4 + [2] * 4), photos([0] * 6)
    yield rows_of("s01", "subject", True, subject), subject
    yield rows_of("p001", "public", False, public), public


def test_the_same_people_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, people(np.random.default_rng(1)))
        write_croissant(tmp_path / name, "1")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    loaded = Synthetic(root=tmp_path / "one").load()
    assert [p.name for p in loaded.subjects[0].enrolment] == [f"s01/enrolment-{k}" for k in range(1, 5)]


# ---- the choice of people ---------------------------------------------------------------------------------------------


def test_sexes_take_turns_and_groups_are_evened_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "listed", lambda name: {1: "dark glasses"})
    rng = np.random.default_rng(0)
    ages = [30] * 6 + [35] + [50]
    readings = [reading(rng, male, age) for male in (0.1, 0.9) for age in ages]
    readings += [reading(rng, 0.5), reading(rng, age=20), reading(rng, yaw=0.6), reading(rng, sharpness=10)]
    first = block(readings)
    choice = select.choose(first, 3)
    assert [first.values["male"][row] > 0.5 for row in choice.rows] == [False, True] * 3
    assert Counter(first.values["age"][row] for row in choice.rows) == {30: 2, 35: 2, 50: 2}
    assert 1 not in choice.rows and choice.dropped["left out by eye"] == 1
    for reason in ("sex unclear", "may be a minor", "turned away", "blurred"):
        assert choice.dropped[reason] == 1


def test_nobody_is_chosen_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "listed", lambda name: {})
    rng = np.random.default_rng(0)
    one = block([reading(rng)])
    choice = select.choose(joined([one, one, block([reading(rng)])]), 5)
    assert choice.rows == [0, 2] and choice.dropped["like an earlier person"] == 1


# ---- small parts ------------------------------------------------------------------------------------------------------


def test_styles_are_mixed_by_layer() -> None:
    own, coarse, fine = (np.full(512, k, np.float32) for k in (1, 2, 3))
    rows = mixed(own, coarse, fine, 3, 12)
    assert rows[:, 0].tolist() == [2] * 3 + [1] * 9 + [3] * (LAYERS - 12)


def test_blocks_come_back(tmp_path: Path) -> None:
    kept = block([reading(np.random.default_rng(k)) for k in range(3)])
    save(tmp_path / "a" / "b.npz", kept)
    again = load(tmp_path / "a" / "b.npz")
    assert (again.photos == kept.photos).all() and (again.draws == kept.draws).all()
    assert all((again.values[name] == kept.values[name]).all() for name in kept.values)
    assert len(load(tmp_path / "a" / "b.npz", photos=False).photos) == 0


def test_lighter_skin_has_a_higher_angle() -> None:
    points = np.array([[30, 40], [70, 40], [50, 60], [36, 78], [64, 78]], np.float32)
    tones = [skin_tone(np.full((100, 100, 3), colour, np.uint8), points) for colour in ((230, 190, 170), (110, 70, 50))]
    assert tones[0] > 41 and tones[1] < 10


def test_the_referee_is_no_attacker(monkeypatch: pytest.MonkeyPatch) -> None:
    from iddmbench.attackers.sface import SFace

    config = make_config({"dataset": "synthetic", "attackers": ["sface"]})
    config.check()
    digest = next(iter(Synthetic.referees))
    monkeypatch.setattr(SFace, "weights_hash", lambda self: digest)
    with pytest.raises(UserError, match="'sface' can't judge dataset 'synthetic': it is fr_feature"):
        config.check()
