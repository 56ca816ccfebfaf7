"""What results are stored under: the photos that a stage uses, in their roles, and nothing else. And who is who."""

import re
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab_plugins import TinyORL
from PIL import Image

from iddmbench.attacker import ATTACKERS
from iddmbench.cells.cell import Cell
from iddmbench.cells.stages import CellStages
from iddmbench.cells.versions import CODE, current_versions
from iddmbench.datasets.folder import Folder
from iddmbench.datasets.orl import photo
from iddmbench.defense import DEFENSES, configure
from iddmbench.errors import UserError
from iddmbench.linking.attacks import CODE as ATTACK_CODE
from iddmbench.linking.enrolment import enrol
from iddmbench.linking.linker import Linker
from iddmbench.linking.score import CODE as SCORE_CODE
from iddmbench.models.base import BaseModel
from iddmbench.run.plan import choose, protocol
from iddmbench.store.cache import Store
from iddmbench.types import Embeddings, FaceData, Person, Photo, Subject

DEFENDED = (
    ("none", {}),
    ("generic", {}),
    ("random-noise", {}),
    ("iddm", {}),
    ("aspl", {}),
    ("metacloak", {}),
    ("cloak", {}),
    ("cloak", {"mode": "targeted"}),
)


pytestmark = pytest.mark.usefixtures("plugins")


def stages(base: BaseModel, data: FaceData, cache: Path) -> CellStages:
    return CellStages(base, data, Store(cache), base.recipe.lora, base.recipe.sampling, (), 1)


def cells(data: FaceData, name: str) -> list[Cell]:
    (subject,) = choose(data, (name,))
    return [Cell(subject, configure(DEFENSES.get(d), options), 0) for d, options in DEFENDED]


def changed(old: Photo) -> Photo:
    image = old.image.copy()
    image[0, 0, 0] ^= 1
    return Photo.of(old.name, image)


def with_subject(data: FaceData, name: str, **changes: Any) -> FaceData:
    return replace(data, subjects=tuple(replace(s, **changes) if s.name == name else s for s in data.subjects))


# ---- keys -------------------------------------------------------------------------------------------------------------


def test_a_cell_depends_on_its_own_person_alone(base: BaseModel, tmp_path: Path) -> None:
    """Another person's photos, one person more, other enrolment photos: no cell is computed again. The gallery is another."""
    data = TinyORL().load()
    other, spare = data.subjects[1], tuple(photo(40, k) for k in (1, 2, 3))
    more = Subject("zoe", spare[:1], spare[1:], (), "orl")
    variants = {
        "a person more": replace(data, subjects=(*data.subjects, more)),
        "another's reference": with_subject(
            data, "s30", references=(changed(other.references[0]), *other.references[1:])
        ),
        "another's enrolment": with_subject(data, "s30", enrolment=(changed(other.enrolment[0]), *other.enrolment[1:])),
        "own enrolment": with_subject(data, "s29", enrolment=(changed(data.subjects[0].enrolment[0]),)),
    }
    keys = [stages(base, data, tmp_path).image_key(cell) for cell in cells(data, "s29")]
    for what, variant in variants.items():
        found = stages(base, variant, tmp_path)
        assert [found.image_key(cell) for cell in cells(variant, "s29")] == keys, what
        assert variant.fingerprint != data.fingerprint
        assert (variant.gallery == data.gallery) == (what == "another's reference")
    own = data.subjects[0].references
    for references in (own[::-1], own[:1], (changed(own[0]), own[1])):
        variant = with_subject(data, "s29", references=references)
        found = stages(base, variant, tmp_path)
        assert not any(found.image_key(cell) == key for cell, key in zip(cells(variant, "s29"), keys, strict=True))


def test_names_of_photos_are_in_no_key(base: BaseModel, tmp_path: Path) -> None:
    data = TinyORL().load()
    renamed = with_subject(
        data, "s29", references=tuple(replace(p, name=f"x{p.name}") for p in data.subjects[0].references)
    )
    keys = [
        [stages(base, d, tmp_path).image_key(cell) for cell in cells(d, "s29")] + [d.fingerprint, d.gallery]
        for d in (data, renamed)
    ]
    assert keys[0] == keys[1]


def test_photos_beside_the_references_are_in_the_keys_of_those_who_use_them(base: BaseModel, tmp_path: Path) -> None:
    data = TinyORL().load()
    (iddm,) = (cell for cell in cells(data, "s29") if cell.defense.name == "iddm")
    lab = stages(base, data, tmp_path)
    decoys = {person.label for person in lab.benches.decoy_people(iddm)}
    public = tuple(
        replace(p, photos=(changed(p.photos[0]), *p.photos[1:])) if p.label in decoys else p for p in data.public
    )
    unseen = tuple(
        p if p.label in decoys else replace(p, photos=(changed(p.photos[0]), *p.photos[1:])) for p in data.public
    )
    surrogate = (photo(29, 9), photo(29, 10))
    users = {
        "decoys": (replace(data, public=public), [("iddm", "untargeted"), ("cloak", "targeted")]),
        "no decoys": (replace(data, public=unseen), []),
        "surrogate photos": (with_subject(data, "s29", surrogate=surrogate), [("aspl", "untargeted")]),
    }
    before = [lab.image_key(cell) for cell in cells(data, "s29")]
    for what, (variant, wanted) in users.items():
        found = stages(base, variant, tmp_path)
        pairs = zip(cells(variant, "s29"), before, strict=True)
        differ = [(c.defense.name, getattr(c.defense, "mode", "")) for c, key in pairs if found.image_key(c) != key]
        assert differ == wanted, what


def test_who_is_added_retrains_nobody(base: BaseModel, tmp_path: Path) -> None:
    """Counted in the cache, by stage."""
    data = TinyORL().load()
    for subject in data.subjects[:2]:
        stages(base, data, tmp_path).outputs(Cell(subject, DEFENSES.get("none")(), 0))
    more = replace(data.subjects[2], name="zoe")
    larger = with_subject(
        replace(data, subjects=(more, *data.subjects[:2])), "s30", references=data.subjects[1].references[::-1]
    )
    before = count(tmp_path)
    assert before == {"references": 2, "class": 1, "personalize": 2, "generate": 2}
    for subject in larger.subjects[1:2]:
        stages(base, larger, tmp_path).outputs(Cell(subject, DEFENSES.get("none")(), 0))
    assert count(tmp_path) == before
    for subject in larger.subjects:
        stages(base, larger, tmp_path).outputs(Cell(subject, DEFENSES.get("none")(), 0))
    # Of the three, one has other references and one is new: two of each more; the class images are the base's.
    assert count(tmp_path) == {stage: entries + 2 * (stage != "class") for stage, entries in before.items()}


def count(cache: Path) -> dict[str, int]:
    found = [path.relative_to(cache).parts[0] for path in cache.glob("*/*/*/key.json")]
    return {stage: found.count(stage) for stage in found}


def test_fewer_references_are_another_model(base: BaseModel, tmp_path: Path) -> None:
    """`references=2` after `references=4` in one cache gives what it gives in a fresh one, under another protocol hash."""
    for name, person in (("ann", 33), ("bob", 34)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(1, 7):
            Image.fromarray(photo(person, k).image).save(tmp_path / "photos" / name / f"{k}.png")
    public = TinyORL().load().public
    four, two = (replace(Folder(tmp_path / "photos", references=n).load(), public=public) for n in (4, 2))
    assert set(two.subjects[0].references) < set(four.subjects[0].references)

    def measured(data: FaceData, cache: str) -> tuple[np.ndarray, np.ndarray, str]:
        lab = stages(base, data, tmp_path / cache)
        cell = Cell(data.subjects[0], DEFENSES.get("none")(), 0)
        attacker = ATTACKERS.get("coarse")()
        linker = Linker(attacker, enrol(attacker, data, lab.embed_photos))
        images = lab.outputs(cell).images
        return (
            images,
            linker.link(cell.subject.label, lab.embed_photos(attacker, cell.subject.enrolment[:2])).mated,
            protocol(lab)["hash"],
        )

    first, shared, fresh = measured(four, "shared"), measured(two, "shared"), measured(two, "fresh")
    assert np.array_equal(shared[0], fresh[0]) and np.array_equal(shared[1], fresh[1]) and shared[2] == fresh[2]
    assert not np.array_equal(first[0], shared[0]) and not np.array_equal(first[1], shared[1]) and first[2] != shared[2]


def test_code_numbers_decide_and_the_package_version_does_not() -> None:
    """The protocol page lists every stage that has one."""
    assert set(current_versions()) == {"torch", "diffusers", "peft"}
    page = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^Stages with a code number: (.*)\.$", page, re.MULTILINE)
    assert set(re.findall(r"`([a-z]+)`", line)) == {*CODE, *SCORE_CODE, *ATTACK_CODE}


# ---- identities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("s1", "s2", "s3"), ("s1", "s28", "s3"), ("decoy", "s1", "s2"), ("public", "s1", "subject")]
)
def test_names_do_not_merge_people(base: BaseModel, tmp_path: Path, names: tuple[str, ...]) -> None:
    """Three people of a folder are linked alike, bit for bit, whether they are called p1 to p3 or as ORL's own are."""
    orl = TinyORL().load()
    photos = [(s.references, s.enrolment) for s in orl.subjects]

    def seen(called: tuple[str, ...]) -> list[Any]:
        subjects = tuple(Subject(name, *two) for name, two in zip(called, photos, strict=True))
        data = FaceData("folder", subjects, orl.public)
        attacker, lab = ATTACKERS.get("fine")(), stages(base, data, tmp_path)
        linker = Linker(attacker, enrol(attacker, data, lab.embed_photos))
        assert linker.identities == 3 + len(orl.public)
        found: list[Any] = [linker.impostors, linker.thresholds, linker.strangers]
        for subject in subjects:
            (own,) = choose(data, (subject.name,))
            cell = Cell(own, DEFENSES.get("generic")(), 0)
            probes = lab.embed_photos(attacker, (*own.references, *orl.subjects[0].references))
            people = [person.label for person in lab.benches.decoy_people(cell)]
            linkage = linker.link(own.label, probes, people)
            assert linker.link(own.label, probes).decoy_rank is None
            assert linkage.decoy_rank is not None
            decoy = np.stack([mean(linker.public[label]) for label in people]).mean(0)
            score = probes.vectors @ (decoy / np.linalg.norm(decoy))
            ahead = (np.column_stack((linkage.mated, linkage.nonmated)) > score[:, None]).sum(1)
            assert (linkage.decoy_rank == 1 + ahead).all()
            found += [
                linkage.mated,
                np.sort(linkage.nonmated),
                linkage.rank,
                linkage.feeds,
                linkage.matched,
                linkage.found,
            ]
        return found

    for one, two in zip(seen(("p1", "p2", "p3")), seen(names), strict=True):
        np.testing.assert_equal(plain(one), plain(two))


def mean(vectors: np.ndarray) -> np.ndarray:
    return vectors.mean(0) / np.linalg.norm(vectors.mean(0))


def plain(value: Any) -> Any:
    """Dataclasses as dictionaries, for numpy to compare."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return plain(vars(value)) if hasattr(value, "__dict__") and not isinstance(value, np.ndarray) else value


def test_training_people_are_told_by_their_source(base: BaseModel, tmp_path: Path) -> None:
    """Eigenfaces was trained on ORL's s1/1; a photo of that name in another dataset is somebody else's."""
    data = TinyORL().load()
    foreign = replace(data, public=tuple(replace(p, source="folder") for p in data.public))
    coarse = ATTACKERS.get("coarse")
    known = type("Known", (coarse,), {"trained_on": frozenset({("orl", "s1/1"), ("orl", "s2/1")}), "name": "coarse"})
    embed = stages(base, data, tmp_path).embed_photos
    assert set(Linker(known(), enrol(known(), data, embed)).unseen) == {f"orl/s{p}" for p in range(3, 29)}
    assert len(enrol(known(), foreign, embed).unseen) == 28


def test_a_number_of_subjects_and_names_of_subjects() -> None:
    orl = TinyORL().load()
    called = ("5", "7", "9")
    data = replace(orl, subjects=tuple(replace(s, name=n) for s, n in zip(orl.subjects, called, strict=True)))
    assert [s.name for s in choose(data, 1)] == ["5"] and [s.name for s in choose(data, ("7",))] == ["7"]
    assert choose(data, "all") == choose(data, 3) == list(data.subjects)
    with pytest.raises(UserError, match="has 3 subjects, 7 asked for: give at most 3, or 'all'"):
        choose(data, 7)
    odd = replace(
        data, subjects=tuple(replace(s, name=n) for s, n in zip(data.subjects, ("a, b", " c ", "all"), strict=True))
    )
    assert [s.name for s in choose(odd, ("all", " c ", "a, b"))] == ["all", " c ", "a, b"]


# ---- memory -----------------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_number_of_people(tmp_path: Path) -> None:
    """24 photos of 0.9 MP take 65 MB if they stay; here one at a time is read."""
    for name, person in (("a", 29), ("b", 30), ("c", 31), ("d", 32)):
        (tmp_path / name).mkdir()
        for k in range(1, 7):
            Image.fromarray(photo(person, k).image).resize((860, 1047)).save(tmp_path / name / f"{k}.jpg")
    Folder(tmp_path).load()  # ORL is read, the detector is there
    tracemalloc.start()
    data = Folder(tmp_path).load()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(data.subjects) == 4 and data.subjects[0].references[0].image.nbytes > 2.5e6
    assert kept < 5e6 and peak < 30e6, (kept, peak)


def test_embedding_reads_a_few_photos_at_a_time(base: BaseModel, tmp_path: Path) -> None:
    """One entry per person, whatever the others' photos are; a person of many photos does not fill the memory."""
    open_now: list[int] = []

    class Counting(ATTACKERS.get("coarse")):  # type: ignore[misc]
        def embed(self, images: Any, faces: Any = None) -> Embeddings:
            open_now.append(len(images))
            return super().embed(images, faces)

    group = tuple(photo(p, k) for p in (1, 2) for k in range(1, 11))
    lab = stages(base, replace(TinyORL().load(), public=(Person("many", group),)), tmp_path)
    found = lab.embed_photos(Counting(), group)
    assert open_now == [16, 4]
    np.testing.assert_array_equal(found.vectors, Counting().embed([p.image for p in group]).vectors)


def test_newer_options_are_in_keys_once_they_are_changed() -> None:
    """What was stored before there were such options stays known."""
    cls = DEFENSES.get("iddm")
    assert cls.newer and not cls.newer & {*cls().settings()} and {"mode", "margin", "strength"} <= {*cls().settings()}
    for option, value in {
        "aim": "strangers",
        "width": 2.0,
        "alternate": False,
        "space": "pixel",
        "pixel_eps": 0.5,
        "diversity": 0.7,
        "balance": True,
    }.items():
        assert option in cls.newer and cls(**{option: value}).settings()[option] == value
