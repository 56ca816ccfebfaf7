"""Datasets that the user has a copy of: Anti-DreamBooth's sets and LFW, in small, made of ORL's photos."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_base import write_base
from typer.testing import CliRunner

from iddmbench.cli import app
from iddmbench.datasets.celebahq import CelebAHQ
from iddmbench.datasets.lfw import LFW
from iddmbench.datasets.orl import photo
from iddmbench.datasets.vggface2 import VGGFace2
from iddmbench.errors import UserError
from iddmbench.faces.detect import Faces, YuNet
from iddmbench.linking.linker import FARS
from iddmbench.metrics.verification import threshold_at_far
from iddmbench.photos import local_copy
from iddmbench.photos.dataset import DATASETS
from iddmbench.photos.set_folders import person_name
from iddmbench.results.run_folder import RunFolder
from iddmbench.types import FaceData, Photo

SETS = ("set_A", "set_B", "set_C")
VARIABLES = {"vggface2": "IDDMBENCH_VGGFACE2", "celebahq": "IDDMBENCH_CELEBAHQ", "lfw": "IDDMBENCH_LFW"}


def picture(person: int, index: int) -> Image.Image:
    """Photo 1-20 of a person of ORL, the last ten being mirrored, in colour."""
    image = (photo(person, (index - 1) % 10 + 1).image * np.array((1, 0.9, 0.8))).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(image[:, ::-1] if index > 10 else image))


def fill_sets(root: Path, people: dict[str, int]) -> Path:
    """Photos 1-4 of each person in set A, 5-8 in B, 9-12 in C."""
    for name, person in people.items():
        for i in range(12):
            path = root / name / SETS[i // 4] / f"{i + 1:04d}_01.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(person, i + 1).save(path)
    return root


def fill_lfw(root: Path, people: dict[str, tuple[int, int]]) -> Path:
    for name, (person, count) in people.items():
        (root / name).mkdir(parents=True)
        for i in range(1, count + 1):
            picture(person, i).save(root / name / f"{name}_{i:04d}.png")
    return root


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """21 people named as in VGGFace2. Read only."""
    return fill_sets(tmp_path_factory.mktemp("split") / "VGGFace2", {f"n{p:06d}": p for p in range(1, 22)})


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people with many photos, 34 with one or four. Read only."""
    people = {f"Many_{p}": (p, 11 + p % 3) for p in range(1, 7)} | {
        f"Few_{p}": (p, 4 if p % 5 else 1) for p in range(7, 41)
    }
    return fill_lfw(tmp_path_factory.mktemp("faces") / "lfw", people)


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """A copy of five people, to be changed."""
    return fill_sets(tmp_path / "few", {f"n{p:06d}": p for p in range(1, 6)})


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few people are enough, as no threshold is fine."""
    monkeypatch.setattr(local_copy, "FINEST", 0.05)


FOUND: dict[bytes, Faces] = {}


class Remembering(YuNet):
    """Looks at each picture once."""

    def detect(self, images: Sequence[np.ndarray] | np.ndarray) -> Faces:
        key = b"".join(f"{image.shape}".encode() + image.tobytes() for image in images)
        if key not in FOUND:
            FOUND[key] = super().detect(images)
        return FOUND[key]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_copy, "YuNet", Remembering)
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


def photos(data: FaceData) -> list[Photo]:
    return [p for s in data.subjects for p in (*s.references, *s.enrolment, *s.surrogate)] + [
        p for person in data.public for p in person.photos
    ]


def names(group: tuple[Photo, ...]) -> list[str]:
    return [p.name for p in group]


def public_names(data: FaceData) -> list[str]:
    return [person.name for person in data.public]


def reasons(data: FaceData) -> dict[str, str]:
    return {s.name: s.reason for s in data.skipped}


# ---- all of them ------------------------------------------------------------------------------------------------------


def test_they_are_registered_and_listed() -> None:
    for name, variable in VARIABLES.items():
        cls = DATASETS.get(name)
        assert cls.name == name and cls.variable == variable and cls.title and cls.licence  # type: ignore[attr-defined]
        result = CliRunner().invoke(app, ["list", "dataset", name])
        assert result.exit_code == 0 and variable in result.stdout and "public" in result.stdout


@pytest.mark.parametrize(
    ("name", "publisher"), [("vggface2", "Anti-DreamBooth"), ("celebahq", "Anti-DreamBooth"), ("lfw", "Massachusetts")]
)
def test_without_a_copy_the_message_says_where_it_is_and_what_to_set(name: str, publisher: str) -> None:
    result = CliRunner().invoke(app, ["run", "--dataset", name])
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert result.exit_code == 2 and result.stderr.endswith(f"{line}\n")
    for part in (f"error: dataset '{name}'", publisher, "--root", VARIABLES[name], "/"):
        assert part in line


def test_the_variable_names_the_root_and_the_option_overrules_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDDMBENCH_VGGFACE2", "~/photos/vgg")
    assert VGGFace2().root == Path.home() / "photos" / "vgg"
    assert VGGFace2("elsewhere").root == Path("elsewhere")
    with pytest.raises(UserError, match=r"^IDDMBENCH_VGGFACE2 .*vgg is not a folder$"):
        VGGFace2().load()
    with pytest.raises(UserError, match=r"^--root elsewhere is not a folder$"):
        VGGFace2("elsewhere").load()
    with pytest.raises(UserError, match="celebahq"):  # each has its own
        CelebAHQ()
    monkeypatch.setenv("IDDMBENCH_VGGFACE2", "")
    with pytest.raises(UserError, match="not shipped"):
        VGGFace2()


def test_an_archive_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "lfw.tgz").write_bytes(b"x")
    with pytest.raises(UserError, match=r"lfw\.tgz is a file: unpack it"):
        LFW(tmp_path / "lfw.tgz").load()


@pytest.mark.parametrize("value", [0, -1, 2.5, "many", True, None])
def test_options_are_whole_numbers(value: object) -> None:
    for cls, options in ((VGGFace2, ("fewest",)), (LFW, ("subjects", "references", "enrolment", "public"))):
        for option in options:
            with pytest.raises(UserError, match=f"dataset '{cls.name}': {option} must be a whole number, at least 1"):
                cls("root", **{option: value})  # type: ignore[arg-type]
    if value != 0 or value is False:
        # Without public people everybody is a subject, as Anti-DreamBooth has it.
        for cls, option in ((VGGFace2, "public"), (VGGFace2, "seed"), (LFW, "seed"), (LFW, "surrogate")):
            with pytest.raises(UserError, match=f"{option} must be a whole number, at least 0"):
                cls("root", **{option: value})  # type: ignore[arg-type]


def test_the_finest_rate_is_the_protocols() -> None:
    assert min(FARS.values()) == local_copy.FINEST


# ---- Anti-DreamBooth's sets ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sets_are_surrogate_reference_and_enrolment(split: Path) -> None:
    data = VGGFace2(split, public=18).load()
    assert data.name == "vggface2" and data.skipped == () and len(data.fingerprint) == 64
    assert len(data.subjects) == 3 and len(data.public) == 18
    assert sorted([*public_names(data), *(s.name for s in data.subjects)]) == [f"n{p:06d}" for p in range(1, 22)]
    for s in data.subjects:
        found = zip(SETS, (s.surrogate, s.references, s.enrolment), (1, 5, 9), strict=True)
        for name, group, first in found:
            assert names(group) == [f"{s.name}/{name}/{i:04d}_01.png" for i in range(first, first + 4)]
            for i, one in enumerate(group):
                assert (one.image == np.asarray(picture(int(s.name[1:]), first + i))).all()
    assert all(len(person.photos) == 12 for person in data.public)
    every = photos(data)
    assert len(every) == 21 * 12 == len({p.name for p in every}) == len({p.image.tobytes() for p in every})


def test_public_people_resolve_the_protocols_rates_or_are_refused(split: Path) -> None:
    """As many people as the message asks for are enough, and one fewer are refused."""
    with pytest.raises(
        UserError, match=r"10 public people with 120 photos make 1080 impostor pairs; .*give public=17 or more"
    ):
        VGGFace2(split, public=10).load()
    with pytest.raises(UserError, match="public=17"):
        VGGFace2(split, public=16).load()
    public = VGGFace2(split, public=17).load().public
    pairs = sum(len(person.photos) for person in public) * (len(public) - 1)
    assert threshold_at_far(np.linspace(0, 1, pairs), min(FARS.values())).pairs == pairs == 17 * 12 * 16
    with pytest.raises(UserError, match=r"holds 21 people .*21 are held out as public ones: no subject is left"):
        VGGFace2(split, public=21).load()


@pytest.mark.usefixtures("coarse")
def test_a_resolution_that_two_people_would_have_is_refused_too(few: Path) -> None:
    with pytest.raises(UserError, match=r"2 public people .* give public=3 or more"):
        VGGFace2(few, public=2).load()


@pytest.mark.usefixtures("coarse")
def test_the_draw_is_seeded_and_nested(few: Path, tmp_path: Path) -> None:
    def load(root: Path = few, **options: int) -> FaceData:
        return VGGFace2(root, **{"public": 3, **options}).load()

    assert public_names(load()) == public_names(load()) and load().fingerprint == load().fingerprint
    drawn = {tuple(public_names(load(seed=seed))) for seed in range(8)}
    assert len(drawn) > 1 and len({load(seed=seed).fingerprint for seed in range(8)}) == len(drawn)
    assert set(public_names(load())) < set(public_names(load(public=4)))
    moved = shutil.copytree(few, tmp_path / "moved")
    assert load(moved).fingerprint == load().fingerprint  # of the photos, not of the place
    shutil.rmtree(moved / load().subjects[0].name)
    assert public_names(load(moved)) == public_names(load())  # a subject more or less changes no other person's role


@pytest.mark.usefixtures("coarse")
def test_the_fingerprint_is_of_pixels_and_roles(few: Path) -> None:
    first = VGGFace2(few, public=3).load()
    name = first.subjects[0].name
    prints = [first.fingerprint]
    path = few / name / "set_B" / "0005_01.png"
    changed = np.array(Image.open(path))
    changed[0, 0, 0] ^= 1
    Image.fromarray(changed).save(path)
    prints.append(VGGFace2(few, public=3).load().fingerprint)
    (few / name / "set_A").rename(few / name / "other")
    (few / name / "set_C").rename(few / name / "set_A")
    (few / name / "other").rename(few / name / "set_C")
    prints.append(VGGFace2(few, public=3).load().fingerprint)
    assert len(set(prints)) == 3
    (few / name / "set_C" / "notes.txt").write_text("x")
    (few / ".DS_Store").write_bytes(b"x")
    (few / "__MACOSX").mkdir()
    after = VGGFace2(few, public=3).load()
    assert after.fingerprint == prints[-1] and after.skipped == ()


@pytest.mark.usefixtures("coarse")
def test_numbered_people_get_a_name(tmp_path: Path) -> None:
    """`--subjects 12` would mean the first twelve."""
    data = CelebAHQ(fill_sets(tmp_path / "celeba", {"1": 1, "12": 12, "103": 3, "7": 7}), public=3).load()
    assert data.name == "celebahq"
    assert sorted([*public_names(data), *(s.name for s in data.subjects)]) == ["id1", "id103", "id12", "id7"]
    assert data.subjects[0].references[0].name == f"{data.subjects[0].name[2:]}/set_B/0005_01.png"
    folders = ["12", "id12", "idid12", "n000012", "id", "ann", "1a"]
    assert len({person_name(f) for f in folders}) == len(folders)
    assert not any(person_name(f).isdigit() for f in folders)


@pytest.mark.usefixtures("coarse")
def test_what_is_skipped_and_why(few: Path) -> None:
    """A person with a set that is missing or too small is left out as a whole; one photo is, if there are enough others."""
    fill_sets(few, {"n000006": 6, "n000007": 7, "n000008": 8})
    Image.fromarray(np.full((90, 90, 3), 90, np.uint8)).save(few / "n000001" / "set_A" / "wall.png")
    (few / "n000001" / "set_C" / "cut.png").write_bytes((few / "n000001" / "set_C" / "0009_01.png").read_bytes()[:900])
    shutil.rmtree(few / "n000006" / "set_C")
    shutil.rmtree(few / "n000007")
    (few / "n000007").mkdir()
    (few / "n000008" / "set_B" / "0005_01.png").write_bytes(b"")
    (few / "n000008" / "set_A" / "0001_01.png").unlink()
    data = VGGFace2(few, public=3).load()
    found = reasons(data)
    assert found.pop("n000001/set_C/cut.png").startswith("unreadable: ")
    assert found.pop("n000008/set_B/0005_01.png").startswith("unreadable: ")
    assert found == {
        "n000001/set_A/wall.png": "no face found",
        "n000006": "no set_C",
        "n000007": "no set_A, set_B, set_C",
        "n000008": "3 usable photos in set_A, 3 usable photos in set_B; 4 needed in each set",
    }
    assert sorted([*public_names(data), *(s.name for s in data.subjects)]) == [f"n{p:06d}" for p in range(1, 6)]
    lenient = VGGFace2(few, public=3, fewest=3).load()
    assert "n000008" in [*public_names(lenient), *(s.name for s in lenient.subjects)]
    with pytest.raises(UserError, match=r"holds 5 people .* 5 are held out .*n000008: 3 usable photos in set_A"):
        VGGFace2(few, public=5).load()


@pytest.mark.usefixtures("coarse")
def test_a_photo_is_used_once(few: Path) -> None:
    """A reference in the gallery would be linked by its pixels; one photo under two names, to the wrong person."""
    a, b = few / "n000001", few / "n000002"
    shutil.copy(a / "set_B" / "0006_01.png", a / "set_C" / "again.png")
    shutil.copy(a / "set_C" / "0009_01.png", a / "set_A" / "again.png")
    shutil.copy(a / "set_B" / "0005_01.png", b / "set_B" / "wrong.png")
    shutil.copytree(few / "n000003", few / "n000003-copy")
    data = VGGFace2(few, public=3).load()
    found = reasons(data)
    assert found["n000001/set_C/again.png"] == "the same photo as n000001/set_B/0006_01.png"
    assert found["n000001/set_A/again.png"] == "the same photo as n000001/set_C/0009_01.png"
    assert found["n000002/set_B/wrong.png"] == "the same photo as n000001/set_B/0005_01.png"
    assert found["n000003-copy"].startswith("0 usable photos in set_A")
    assert len({p.image.tobytes() for p in photos(data)}) == len(photos(data)) == 60
    (a / "set_B" / "0005_01.png").unlink()  # now a set falls short, and the person out
    assert reasons(VGGFace2(few, public=3).load())["n000001"] == "3 usable photos in set_B; 4 needed in each set"


def test_the_folder_to_give_is_named(split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def message(root: Path) -> str:
        with pytest.raises(UserError) as caught:
            VGGFace2(root).load()
        text = str(caught.value)
        assert text.startswith(f"--root {root} holds no IDENTITY/set_A, set_B and set_C: ") and "\n" not in text
        return text.partition("set_C: ")[2]

    assert message(split.parent) == f"it is too high; give {split}"
    assert message(split / "n000001") == f"it is too low; give {split}"
    assert message(split / "n000001" / "set_B") == f"it is too low; give {split}"
    nested = tmp_path / "download" / "archive"
    for name in ("CelebA-HQ", "VGGFace2"):
        (nested / name / "1" / "set_A").mkdir(parents=True)
    assert message(tmp_path / "download") == f"it is too high; give {nested / 'CelebA-HQ'} or {nested / 'VGGFace2'}"
    flat = tmp_path / "flat"
    (flat / "ann").mkdir(parents=True)
    picture(1, 1).save(flat / "ann" / "1.png")
    assert "--dataset folder" in message(flat)
    (tmp_path / "empty").mkdir()
    assert message(tmp_path / "empty").startswith("is the copy complete? The Anti-DreamBooth repository")
    monkeypatch.chdir(split / "n000002")
    assert message(Path()) == f"it is too low; give {split}"


# ---- LFW --------------------------------------------------------------------------------------------------------------


def lfw(root: Path, **options: int) -> FaceData:
    return LFW(root, **{"subjects": 4, "public": 34, **options}).load()


def test_lfw_has_subjects_with_many_photos_and_others_public(faces: Path) -> None:
    data = lfw(faces)
    assert data.name == "lfw" and data.skipped == ()
    eligible = {f"Many_{p}" for p in range(1, 7) if 11 + p % 3 >= 12}
    assert {s.name for s in data.subjects} == eligible and len(data.subjects) == 4
    assert len(data.public) == 34 and not eligible & set(public_names(data))
    for s in data.subjects:
        assert len(s.references) == len(s.enrolment) == len(s.surrogate) == 4
        assert all(p.name.startswith(f"{s.name}/{s.name}_0") for p in (*s.references, *s.enrolment, *s.surrogate))
    for name, group in ((p.name, p.photos) for p in data.public):
        assert len(group) == min(4, len(list((faces / name).iterdir())))
    every = photos(data)
    assert len(every) == len({p.name for p in every}) == len({p.image.tobytes() for p in every})


def test_lfw_draws_are_seeded_and_nested(faces: Path) -> None:
    first, again, other = lfw(faces, subjects=3), lfw(faces, subjects=3), lfw(faces, subjects=3, seed=1)
    assert first.subjects == again.subjects and first.public == again.public and first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint
    assert public_names(first) != public_names(other)
    assert any(a.references != b.references for a in first.subjects for b in other.subjects if a.name == b.name)
    assert lfw(faces, subjects=4).subjects[:3] == first.subjects
    assert set(public_names(lfw(faces, subjects=1, public=36))) & {
        f"Many_{p}" for p in range(1, 7)
    }  # who was not drawn
    small = lfw(faces, references=2, enrolment=3, surrogate=0, public=36).subjects[0]
    assert [len(g) for g in (small.references, small.enrolment, small.surrogate)] == [2, 3, 0]


def test_lfw_replaces_a_subject_whose_photos_fail(faces: Path, tmp_path: Path) -> None:
    root = shutil.copytree(faces, tmp_path / "lfw")
    first, second, *_ = (s.name for s in lfw(root, subjects=3).subjects)
    for path in (root / first).iterdir():
        Image.fromarray(np.full((90, 90, 3), 90, np.uint8)).save(path)
    (root / second / "notes.png").write_bytes(b"no photo of the dataset")
    (root / "Empty_Person").mkdir()
    (root / "pairs.txt").write_text("x")
    data = lfw(root, subjects=3)
    assert (
        [s.name for s in data.subjects][:1] == [second] and len(data.subjects) == 3 and first not in public_names(data)
    )
    found = reasons(data)
    assert found.pop(first) == "0 usable photos, 12 needed of a subject"
    assert found and all(n.startswith(f"{first}/") and r == "no face found" for n, r in found.items())


def test_lfw_in_part_is_refused(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"gives 4 subjects with 12 usable photos \(5 asked for\) and 34 public .*ask for fewer"
    ):
        lfw(faces, subjects=5)
    with pytest.raises(UserError, match=r"gives 4 subjects .* and 36 public people \(37 asked for\)"):
        lfw(faces, public=37)
    with pytest.raises(UserError, match=r"'lfw': 20 public people .* give public=\d\d or more"):
        lfw(faces, public=20)
    with pytest.raises(UserError, match=f"it is too high; give {faces}$"):
        lfw(faces.parent)
    with pytest.raises(UserError, match=f"it is too low; give {faces}$"):
        lfw(faces / "Few_9")
    (tmp_path / "other" / "ann").mkdir(parents=True)
    picture(1, 1).save(tmp_path / "other" / "ann" / "1.png")
    with pytest.raises(UserError, match=r"holds no PERSON/PERSON_0001.jpg: .*--dataset folder"):
        lfw(tmp_path / "other")


# ---- a run ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("plugins")
def test_a_run_on_a_copy(split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command line, once by the option and once by the variable: the same photos, and no path in the second one's
    configuration."""
    monkeypatch.setenv("IDDMBENCH_CACHE", str(tmp_path / "cache"))
    arguments = ["run", "--dataset", "vggface2", "--base", str(write_base(tmp_path / "base")), "--subjects", "1"]
    arguments += [
        "--defense",
        "none",
        "--attacker",
        "coarse",
        "--images-per-prompt",
        "1",
        "--prompt",
        "a photo of sks person",
    ]
    found = {}
    for out, given in (("option", ["--root", str(split)]), ("variable", [])):
        if not given:
            monkeypatch.setenv("IDDMBENCH_VGGFACE2", str(split))
        result = CliRunner().invoke(app, [*arguments, *given, "--out", str(tmp_path / out)])
        assert result.exit_code == 0, result.output
        found[out] = RunFolder.open(tmp_path / out)
    by_option, by_variable = found["option"].config, found["variable"].config
    assert by_option["data_fingerprint"] == by_variable["data_fingerprint"]
    assert by_option["protocol"] == by_variable["protocol"]
    assert by_option["dataset_options"] == {"root": str(split)} and by_variable["dataset_options"] == {}
    assert str(split) not in str(by_variable)
