"""Is the enrolled person the person? Each wrong folder of photos gives its finding; ORL gives none."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_base import RECIPE, write_base
from typer.testing import CliRunner

from iddmbench.attacker import ATTACKERS, Attacker, ComputedAttacker, build_attacker
from iddmbench.attackers.facenet import FaceNetVGGFace2
from iddmbench.cells.stages import CellStages
from iddmbench.cli import app
from iddmbench.datasets.folder import Folder
from iddmbench.datasets.orl import ORL, photo
from iddmbench.errors import UserErrors
from iddmbench.faces.detect import YuNet
from iddmbench.linking.declared import PeopleBySource, attacker_training, base_training, foreign
from iddmbench.linking.doubts import all_findings, duplicates, view_of
from iddmbench.linking.enrolment import enrol
from iddmbench.linking.linker import Linker
from iddmbench.linking.premise import ABLE, GalleryView, merged, same_person
from iddmbench.models.base import BaseModel, open_base
from iddmbench.models.recipe import Recipe
from iddmbench.photos.duplicates import ALIKE, same_pictures, thumbnail
from iddmbench.photos.faults import faults, turned_by
from iddmbench.results.findings import (
    FACT,
    FILE,
    KINDS,
    NOTE,
    SEVERITIES,
    WARNING,
    Finding,
    check_strict,
    in_order,
    lines,
    read_findings,
)
from iddmbench.results.run_folder import RunFolder
from iddmbench.run import pipeline
from iddmbench.run.config import make_config
from iddmbench.store.cache import Store
from iddmbench.types import FaceData, Photo, Subject

SYSTEMS = ("dlib", "sface")


def orl(person: int, *indices: int) -> list[np.ndarray]:
    return [photo(person, i).image for i in indices]


def scaled(image: np.ndarray, factor: float) -> np.ndarray:
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=interpolation)


def beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two photos in one, on gray."""
    canvas = np.full((max(left.shape[0], right.shape[0]), left.shape[1] + right.shape[1], 3), 128, np.uint8)
    canvas[: left.shape[0], : left.shape[1]] = left
    canvas[: right.shape[0], left.shape[1] :] = right
    return canvas


def subject(name: str, references: Iterable[np.ndarray], enrolment: Iterable[np.ndarray]) -> Subject:
    def photos(images: Iterable[np.ndarray], role: str) -> tuple[Photo, ...]:
        return tuple(Photo.of(f"{name}/{role}{i}.png", image) for i, image in enumerate(images))

    return Subject(name, photos(references, "r"), photos(enrolment, "e"))


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return open_base("micro")


@pytest.fixture(scope="module")
def look(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Finding]]:
    """Findings on people of one's own, with ORL's public people as distractors; what embeds them is kept."""
    store, systems = Store(tmp_path_factory.mktemp("cache")), {name: build_attacker(name) for name in SYSTEMS}

    def find(
        *subjects: Subject, data: FaceData | None = None, attackers: dict[str, Attacker] = systems
    ) -> list[Finding]:
        data = data or FaceData("mine", subjects, ORL().load().public)
        stages = CellStages(base, data, store, base.recipe.lora, base.recipe.sampling, (), 1)
        embed = stages.embed_photos
        linkers = {name: Linker(attacker, enrol(attacker, data, embed)) for name, attacker in attackers.items()}
        return all_findings(data, data.subjects, linkers, embed, stages.crops.detector, base)

    return find


def of(kind: str, findings: Iterable[Finding]) -> list[Finding]:
    return [f for f in findings if f.kind == kind]


def doubts(findings: Iterable[Finding]) -> set[str]:
    """Kinds, without what is always said of foreign distractors and of the base."""
    return {f.kind for f in findings if f.kind not in ("foreign", "unverified", "trained-on")}


# ---- plain ORL: nothing but what is known ------------------------------------------------------------------------------


@pytest.mark.slow
def test_orl_gives_no_finding_but_the_known_one(look: Callable[..., list[Finding]]) -> None:
    (only,) = look(data=ORL().load())
    assert only.severity == FACT and not only.strict
    assert only.text == "the base model 'micro' was trained on the distractors (28 people of orl)"
    assert lines([only]) == [only.text]


@pytest.mark.slow
def test_weak_systems_say_one_line(look: Callable[..., list[Finding]]) -> None:
    """LBPH fails on half of ORL's subjects, which tells of LBPH."""
    found = look(data=ORL().load(), attackers={"lbph": build_attacker("lbph")})
    (only,) = [f for f in found if f.severity != FACT]
    assert (only.kind, only.severity, only.subject) == ("unrecognized", NOTE, "")
    assert "recognizes 81% of the public people's own photos" in only.text


def test_good_folder_has_no_doubt_but_foreign_distractors(look: Callable[..., list[Finding]]) -> None:
    found = look(subject("ann", orl(29, 1, 2, 3, 4), orl(29, 5, 6)), subject("ben", orl(30, 1, 2, 3, 4), orl(30, 5, 6)))
    assert doubts(found) == set()
    (one,) = of("foreign", found)
    assert one.severity == NOTE and one.strict
    assert "distractors and thresholds come from orl, subjects from mine: the real FAR may differ" in one.text


# ---- somebody else ---------------------------------------------------------------------------------------------------------


def test_another_person_is_enrolled(look: Callable[..., list[Finding]]) -> None:
    found = look(subject("ann", orl(29, 1, 2, 3, 4), orl(31, 5, 6)), subject("ben", orl(30, 1, 2, 3, 4), orl(30, 5, 6)))
    for system in SYSTEMS:
        (one,) = [f for f in of("unrecognized", found) if system in f.attacker]
        assert one.severity == WARNING and one.subject == "ann" and "in 4 of 4 reference photos" in one.text
    assert {f.subject for f in found if f.severity == WARNING} == {"ann"}


def test_references_of_another_subject(look: Callable[..., list[Finding]]) -> None:
    """Whom they are taken for is named."""
    found = look(subject("ann", orl(30, 1, 2, 3), orl(29, 5, 6)), subject("ben", orl(30, 4, 7, 8), orl(30, 5, 6)))
    assert all("takes them for ben: ann/r0.png" in f.text for f in of("unrecognized", found))
    assert of("unrecognized", found)


def test_one_enrolment_photo_shows_somebody_else(look: Callable[..., list[Finding]]) -> None:
    found = look(subject("ann", orl(29, 1, 2, 3, 4), [*orl(29, 5, 6, 7), *orl(31, 5)]))
    named = of("stranger", found)
    assert {f.photo for f in named} == {"ann/e3.png"} and doubts(found) == {"stranger"}
    assert {system for f in named for system in f.attacker.split(", ")} == set(SYSTEMS)


def test_somebody_stands_nearer_to_the_camera(look: Callable[..., list[Finding]]) -> None:
    """The templates agree, on the wrong one: only the number of faces tells."""
    photos = [
        beside(a, scaled(b, 1.4)) for a, b in zip(orl(29, 1, 2, 3, 4, 5, 6), orl(31, 1, 2, 3, 4, 5, 6), strict=True)
    ]
    named = of("several-faces", look(subject("ann", photos[:4], photos[4:])))
    assert len(named) == 6 and {f.severity for f in named} == {WARNING}
    assert all("shows 2 faces; the largest is used, on the right" in f.text for f in named)


def test_a_small_face_in_the_background_is_a_note() -> None:
    (fault,) = faults(beside(scaled(orl(31, 1)[0], 1.0), scaled(orl(29, 1)[0], 3.0)), YuNet())
    assert fault.kind == "several-faces" and not fault.serious


def test_all_photos_of_somebody_else_can_not_be_told_and_that_is_said(look: Callable[..., list[Finding]]) -> None:
    """One person alone in a folder: nothing but the folder's name says who it should be."""
    found = look(subject("ann", orl(31, 1, 2, 3, 4), orl(31, 5, 6)))
    assert doubts(found) == set()
    (one,) = of("unverified", found)
    assert one.severity == FACT and "nothing verifies that photos show the person they are named after" in one.text
    assert not of("unverified", look(data=ORL().load()))


def test_a_gallery_of_one_wrong_person_alone(look: Callable[..., list[Finding]]) -> None:
    found = look(subject("ann", orl(29, 1, 2, 3, 4), orl(31, 5, 6)))
    for system in SYSTEMS:
        (one,) = [f for f in of("unrecognized", found) if system in f.attacker]
        assert one.severity == WARNING and one.subject == "ann"


# ---- one person twice ------------------------------------------------------------------------------------------------------


def test_one_person_in_two_folders(look: Callable[..., list[Finding]]) -> None:
    found = look(subject("ann", orl(29, 1, 2, 3), orl(29, 4, 5)), subject("anna", orl(29, 6, 7, 8), orl(29, 9, 10)))
    named = of("same-person", found)
    assert {system for f in named for system in f.attacker.split(", ")} == set(SYSTEMS)
    assert all("ann and anna look like one person under two names" in f.text for f in named)
    assert doubts(found) == {"same-person"}, "that one is taken for the other follows from it"


def test_subject_who_is_a_public_person_too(look: Callable[..., list[Finding]]) -> None:
    found = look(subject("ann", orl(3, 1, 2, 3, 4), orl(3, 5, 6)))
    assert any("ann and orl/s3 (public) look like one person" in f.text for f in of("same-person", found))
    copies = of("duplicate", found)
    assert len(copies) == 6 and {f.severity for f in copies} == {WARNING}
    assert "the same picture appears 2 times: 1 reference of ann, 1 of orl/s3 (public)" in copies[0].text


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_rule_for_one_person_has_room_on_all_of_orl(name: str, base: BaseModel, tmp_path: Path) -> None:
    """No pair of the 40 people is suspected, by a margin; each person cut in two is."""
    data = ORL().load()
    stages = CellStages(base, data, Store(tmp_path), base.recipe.lora, base.recipe.sampling, (), 1)
    attacker = build_attacker(name)
    view = view_of(name, Linker(attacker, enrol(attacker, data, stages.embed_photos)), {})
    assert view.ability == 1.0 > ABLE
    everybody = {*view.identities}
    assert same_person(view, everybody) == []
    cut = view.labels.astype("U40")
    for subject in data.subjects:
        rows = np.flatnonzero(view.labels == subject.label)
        cut[rows[::2]] = f"{subject.label}-twin"
    pairs = same_person(replace(view, labels=cut), {*cut})
    assert {frozenset((p.subject, p.other)) for p in pairs} == {
        frozenset((s.label, f"{s.label}-twin")) for s in data.subjects
    }


def test_strangers_that_are_far_apart_are_no_pair() -> None:
    """By hand: the limit is a third of the way from 0 (public pairs) to 1 (halves of one person)."""
    eye = np.eye(4, dtype=np.float32)
    near = (eye[3] + 0.4 * eye[2]) / np.hypot(1, 0.4)  # cosine 0.371 to the third
    gallery = np.concatenate((np.repeat(eye[:3], 2, 0), np.stack((near, near))))
    labels = np.repeat(["p/1", "p/2", "m/a", "m/b"], 2)
    view = GalleryView("x", gallery, labels, frozenset(("p/1", "p/2")), 0.2, 0.3)
    (pair,) = same_person(view, {"m/a", "m/b"})
    assert pair.similarity == pytest.approx(0.4 / np.hypot(1, 0.4)) and pair.limit == pytest.approx(1 / 3)
    assert same_person(replace(view, finest=0.4), {"m/a", "m/b"}) == []


# ---- copies ------------------------------------------------------------------------------------------------------------------


def test_six_copies_of_one_file(look: Callable[..., list[Finding]]) -> None:
    (one,) = of("duplicate", look(subject("ann", orl(29, 1, 1, 1, 1), orl(29, 1, 1))))
    assert one.severity == WARNING
    assert one.text.startswith("the same picture appears 6 times: 4 reference of ann, 2 enrolment of ann")


def test_copy_that_was_changed_a_little() -> None:
    x = orl(29, 1)[0]
    changed = [scaled(x, 0.5), scaled(x, 2.0), np.clip(x.astype(int) + 10, 0, 255).astype(np.uint8)]
    changed.append(cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR))
    for other in changed:
        people = (subject("ann", [x, *orl(29, 2)], [other, *orl(29, 3)]),)
        (one,) = duplicates(FaceData("mine", people, ORL().load().public), people)
        assert one.text.startswith("nearly the same picture appears 2 times: 1 reference of ann, 1 enrolment of ann")


def test_no_two_photos_of_orl_are_one() -> None:
    every = [photo(person, i) for person in range(1, 41) for i in range(1, 11)]
    thumbnails = np.stack([thumbnail(p.image) for p in every])
    assert same_pictures([p.digest for p in every], thumbnails) == []
    table = thumbnails @ thumbnails.T
    assert table[~np.eye(len(every), dtype=bool)].max() < ALIKE - 0.004


def test_copies_in_one_role_are_a_note() -> None:
    people = (subject("ann", orl(29, 1, 1, 2), orl(29, 3)),)
    (one,) = duplicates(FaceData("mine", people, ORL().load().public), people)
    assert one.severity == NOTE


def test_flat_pictures_are_copies_by_pixels_only() -> None:
    gray = [np.full((20, 20, 3), value, np.uint8) for value in (90, 90, 120)]
    (group,) = same_pictures([Photo.of("x", x).digest for x in gray], np.stack([thumbnail(x) for x in gray]))
    assert group.places == (0, 1) and group.exact


# ---- turned and small --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("turns", "told"), [(1, "90 degrees"), (2, "180 degrees"), (3, "90 degrees")])
def test_turned_photos(turns: int, told: str) -> None:
    """Every one is told, whether a face is found on it as it is or not."""
    detector = YuNet()
    for person in range(1, 41, 4):
        (fault,) = faults(np.rot90(orl(person, 1)[0], turns), detector)
        assert fault.kind == "turned" and told in fault.text


def test_upright_photos_are_not_turned() -> None:
    detector = YuNet()
    assert [list(faults(x, detector)) for person in range(1, 41) for x in orl(person, 1)] == [[]] * 40
    assert turned_by(np.full((80, 80, 3), 100, np.uint8), detector) == ""


def write_folder(root: Path, people: dict[str, list[np.ndarray]]) -> Path:
    for name, images in people.items():
        (root / name).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(np.ascontiguousarray(image)).save(root / name / f"{i}.png")
    return root


def test_turned_photos_without_a_face_are_left_out_with_the_reason(
    tmp_path: Path, look: Callable[..., list[Finding]]
) -> None:
    detector = YuNet()
    turned = [np.rot90(x) for x in orl(29, 1, 2, 3) if not detector.detect([np.rot90(x)]).found[0]]
    assert turned
    root = write_folder(tmp_path / "photos", {"ann": [*orl(29, 4, 5, 6, 7, 8, 9), *turned]})
    found = look(data=Folder(root).load())
    named = of("turned", found)
    assert len(named) == len(turned)
    assert all("was left out: no face found, but there is one after a turn by 90 degrees" in f.text for f in named)


def test_very_small_photo(look: Callable[..., list[Finding]]) -> None:
    detector = YuNet()
    tiny = next(
        t
        for i in range(1, 11)
        if detector.detect([t := cv2.resize(orl(29, i)[0], (10, 12), interpolation=cv2.INTER_AREA)]).found[0]
    )
    found = look(subject("ann", [*orl(29, 1, 2, 3), tiny], orl(29, 4, 5)))
    (one,) = of("small", found)
    assert one.photo == "ann/r3.png" and one.severity == WARNING
    assert "ann/r3.png is 10 x 12 px, the face in it" in one.text and "too small to compare" in one.text


# ---- declared training data ------------------------------------------------------------------------------------------------


def test_attacker_on_its_own_training_data() -> None:
    people = PeopleBySource({"vggface2": ["n1"]}, {"vggface2": ["n2"]})
    (one,) = attacker_training("facenet-vggface2", FaceNetVGGFace2(), people)
    assert one.severity == WARNING and "declares the subjects' dataset, vggface2" in one.text
    (one,) = attacker_training(
        "facenet-vggface2", FaceNetVGGFace2(), PeopleBySource({"folder": ["a"]}, {"vggface2": ["n2"]})
    )
    assert one.severity == NOTE
    assert (
        list(attacker_training("facenet-vggface2", FaceNetVGGFace2(), PeopleBySource({"lfw": ["a"]}, {"lfw": ["b"]})))
        == []
    )


def test_every_system_with_weights_declares_its_data() -> None:
    unknown = {"hog", "onnx", "fr_feature"}  # untrained, the user's, not said
    for name in ATTACKERS.names():
        plugin = ATTACKERS.get(name)
        assert all(data == data.lower() for data in plugin.trained_on_datasets)
        computed = issubclass(plugin, ComputedAttacker)  # without training, or declared by photo
        if name not in unknown and not computed and plugin.__module__.startswith("iddmbench.attackers"):
            assert plugin.trained_on_datasets, f"{name} does not say what it was trained on"


def test_base_trained_on_subjects_is_a_warning() -> None:
    recipe = Recipe.model_validate({"trained_on": {"orl": [], "lfw": ["x"]}})
    told = list(base_training("my-base", recipe, PeopleBySource({"orl": ["s29"]}, {"orl": ["s1", "s2"]})))
    assert [f.severity for f in told] == [WARNING, FACT]
    assert "was trained on 1 of the subjects (orl): s29" in told[0].text
    assert list(base_training("my-base", recipe, PeopleBySource({"lfw": ["y"]}, {"folder": ["z"]}))) == []


def test_no_foreign_distractors_where_all_are_of_one_dataset() -> None:
    assert list(foreign(PeopleBySource({"orl": ["s29"]}, {"orl": ["s1"]}))) == []


def test_declaration_is_no_part_of_the_base_fingerprint(tmp_path: Path) -> None:
    """It changes no image, so what was computed stays valid."""
    plain = write_base(tmp_path / "plain")
    recipe = plain / "iddmbench.json"
    recipe.write_text(json.dumps(RECIPE, indent=2) + "\n")
    declared = write_base(tmp_path / "declared")
    (declared / "iddmbench.json").write_text(json.dumps(RECIPE | {"trained_on": {"orl": ["s1"]}, "judges": ["net"]}))
    other = write_base(tmp_path / "other")
    (other / "iddmbench.json").write_text(json.dumps(RECIPE | {"frame": 2.0}))
    prints = [open_base(str(folder)).fingerprint for folder in (plain, declared, other)]
    assert prints[0] == prints[1] != prints[2]


# ---- what is shown ---------------------------------------------------------------------------------------------------------


def finding(kind: str, severity: str, who: str = "ann", text: str = "text") -> Finding:
    return Finding(kind, severity, who, "", "", text)


def test_lines_are_few_and_say_where_the_rest_is() -> None:
    many = [finding("small", WARNING, f"p{i}", f"p{i} is small") for i in range(12)]
    told = lines([*many, finding("small", WARNING, "p0", "another")], most=5)
    assert told[0] == "warning: p0 is small (and 1 more like it: small in premise.parquet)"
    assert told[5:] == ["and 7 more in premise.parquet"]


def test_order_is_by_severity_then_kind() -> None:
    mixed = [
        finding("trained-on", FACT),
        finding("foreign", NOTE),
        finding("small", WARNING),
        finding("stranger", WARNING),
    ]
    assert [f.kind for f in in_order(mixed)] == ["stranger", "small", "foreign", "trained-on"]
    assert set(SEVERITIES) == {WARNING, NOTE, FACT} and len(KINDS) == 13


def test_same_words_of_several_attackers_stand_once() -> None:
    said = [Finding("stranger", WARNING, "ann", "a.png", name, f"{name}: a.png looks odd") for name in SYSTEMS]
    (one,) = merged(said)
    assert one.attacker == "dlib, sface" and one.text == "dlib, sface: a.png looks odd"


def test_strict_is_about_doubts_not_facts() -> None:
    check_strict([finding("trained-on", FACT)])
    with pytest.raises(UserErrors) as caught:
        check_strict([finding("trained-on", FACT), finding("foreign", NOTE, "", "foreign"), finding("small", WARNING)])
    assert caught.value.lines == ("note: foreign", "warning: text", "--strict: 2 findings, so nothing was trained")


# ---- in a run ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one person's enrolment can't be the person's, whatever the split."""
    root = tmp_path_factory.mktemp("wrong")
    return write_folder(root / "photos", {"ann": orl(29, 1, 1, 1, 1, 1, 1), "ben": orl(30, 1, 2, 3, 4, 5, 6)})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def arguments(wrong: Path, tiny: Path, out: Path) -> list[str]:
    usual = ["run", "--dataset", "folder", "--root", str(wrong), "--base", str(tiny), "--defense", "none"]
    usual += ["--attacker", "dlib", "--images-per-prompt", "1", "--prompt", "a photo of sks person"]
    return [*usual, "--no-anchors", "--out", str(out), "--cache", str(out.parent / "cache")]


@pytest.mark.slow
def test_strict_run_trains_nothing(wrong: Path, tiny: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*arguments(wrong, tiny, tmp_path / "run"), "--strict"])
    assert result.exit_code == 2 and "Traceback" not in result.output
    told = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert told[0].startswith(
        "error: warning: the same picture appears 6 times: 4 reference of ann, 2 enrolment of ann"
    )
    assert any("distractors and thresholds come from orl" in line for line in told)
    assert told[-1] == "error: --strict: 2 findings, so nothing was trained"
    assert not (tmp_path / "cache" / "personalize").exists() and not (tmp_path / "run" / "summary.parquet").exists()
    assert {f.kind for f in read_findings(tmp_path / "run")} == {"duplicate", "foreign", "unverified"}


@pytest.mark.slow
def test_run_says_it_keeps_it_and_shows_it(wrong: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = CliRunner().invoke(app, arguments(wrong, tiny, out))
    assert result.exit_code == 0, result.output
    text = "the same picture appears 6 times: 4 reference of ann, 2 enrolment of ann"
    assert f"warning: {text}" in result.stderr and "note: distractors and thresholds come from orl" in result.stderr
    assert {f.kind for f in read_findings(out)} == {"duplicate", "foreign", "unverified"}
    assert set(RunFolder.open(out).premise["kind"]) == {"duplicate", "foreign", "unverified"}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.index(text) < page.index('class="headline"')
    status = CliRunner().invoke(app, ["status", str(out)])
    assert f"warning: {text}" in status.output


@pytest.mark.slow
def test_findings_come_from_the_cache(wrong: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(
        {"dataset": "folder", "dataset_options": {"root": str(wrong)}, "base": str(tiny), "defenses": ("none",)}
        | {"anchors": False, "attackers": ("dlib",), "images_per_prompt": 1, "prompts": ("a photo of sks person",)}
    )
    told: list[list[Finding]] = []
    for folder in ("a", "b"):
        with pytest.raises(UserErrors):
            pipeline.run(config, tmp_path / folder, tmp_path / "cache", strict=True)
        told.append(read_findings(tmp_path / folder))
        monkeypatch.setattr("iddmbench.linking.score.all_findings", lambda *_: pytest.fail("looked again"))
    assert told[0] == told[1] and len(told[0]) == 3


SWEEP = """
name: wrong
dataset: folder
dataset_options: {{root: {root}}}
base: {base}
defenses: [none]
anchors: false
attackers: [dlib]
images_per_prompt: 1
prompts: [a photo of sks person]
"""


@pytest.mark.slow
@pytest.mark.parametrize("strict", [True, False])
def test_sweep_looks_first(wrong: Path, tiny: Path, tmp_path: Path, strict: bool) -> None:
    (tmp_path / "wrong.yaml").write_text(SWEEP.format(root=wrong, base=tiny))
    command = [
        "sweep",
        str(tmp_path / "wrong.yaml"),
        "--out",
        str(tmp_path / "out"),
        "--cache",
        str(tmp_path / "cache"),
    ]
    result = CliRunner().invoke(app, [*command, "--workers", "1", "--no-report", *(["--strict"] if strict else [])])
    (run,) = (tmp_path / "out" / "runs").iterdir()
    assert {f.kind for f in read_findings(run)} == {"duplicate", "foreign", "unverified"}, result.output
    assert "the same picture appears 6 times" in result.stderr
    if strict:
        assert result.exit_code == 2 and "error: --strict: 2 findings, so nothing was trained" in result.stderr
        assert not (tmp_path / "cache" / "personalize").exists()
    else:
        assert result.exit_code == 0 and (run / "summary.parquet").is_file() and (run / FILE).is_file()
