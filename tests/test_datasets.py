"""Datasets: the split of ORL, and everything that a folder of somebody's photos may hold."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iddmbench.datasets.folder import Folder
from iddmbench.datasets.orl import ORL, photo
from iddmbench.errors import UserError
from iddmbench.photos.dataset import DATASETS
from iddmbench.photos.files import LONGEST, read_photo
from iddmbench.types import FaceData, Person, Photo, Subject, pixel_digest


def test_orl_is_split_as_the_protocol_says() -> None:
    data = ORL().load()
    assert [p.name for p in data.public] == [f"s{p}" for p in range(1, 29)]
    assert all([x.name for x in p.photos] == [f"{p.name}/{k}" for k in range(1, 11)] for p in data.public)
    assert [s.name for s in data.subjects] == [f"s{p}" for p in range(29, 41)]
    for subject in data.subjects:
        assert [p.name for p in subject.references] == [f"{subject.name}/{k}" for k in range(1, 5)]
        assert [p.name for p in subject.enrolment] == [f"{subject.name}/{k}" for k in range(5, 11)]
        assert subject.surrogate == ()
    every = [p for s in data.subjects for p in (*s.references, *s.enrolment)]
    every += [x for p in data.public for x in p.photos]
    assert len(every) == 400 == len({p.name for p in every})
    assert len({p.image.tobytes() for p in every}) == 400  # no photo on two sides under two names
    assert {p.image.shape for p in every} == {(112, 92, 3)} and {p.image.dtype for p in every} == {np.dtype(np.uint8)}


def person(name: str, *indices: int, source: str = "") -> Person:
    return Person(name, tuple(photo(1, k) for k in indices), source)


def subject(name: str, references: Sequence[int], enrolment: Sequence[int], source: str = "") -> Subject:
    return Subject(name, tuple(photo(2, k) for k in references), tuple(photo(2, k) for k in enrolment), (), source)


def test_the_fingerprint_is_of_people_roles_and_pixels() -> None:
    first = ORL().load().fingerprint
    assert first == ORL().load().fingerprint and len(first) == 64
    changed = photo(2, 1).image.copy()
    changed[5, 5, 0] ^= 1
    other = replace(subject("a", (1, 2), (3, 4)), references=(Photo.of("s2/1", changed), photo(2, 2)))
    public = (person("b", 1, 2),)
    every = [
        FaceData("x", people, known)
        for people, known in (
            ((subject("a", (1, 2), (3, 4)),), public),
            ((subject("a", (2, 1), (3, 4)),), public),
            ((subject("a", (1,), (2, 3, 4)),), public),
            ((subject("z", (1, 2), (3, 4)),), public),
            ((subject("a", (1, 2), (3, 4), "orl"),), public),
            ((subject("a", (1, 2), (3, 4)),), (person("b", 1, 2, source="orl"),)),
            ((other,), public),
        )
    ]
    assert len({data.fingerprint for data in every}) == len(every)
    renamed = replace(photo(2, 1), name="another name")
    same = replace(subject("a", (1, 2), (3, 4)), references=(renamed, photo(2, 2)))
    assert FaceData("x", (same,), public).fingerprint == every[0].fingerprint
    # The gallery is of enrolment and public photos alone.
    assert every[0].gallery == every[1].gallery == every[-1].gallery != every[2].gallery


def test_a_photo_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    """Not before, and not if it is another one by then."""
    path = tmp_path / "photo.png"
    picture(33, 1).save(path)
    reads = []

    def read() -> np.ndarray:
        reads.append(path)
        return read_photo(path)

    found = Photo.read_by("ann/1", read)
    assert len(reads) == 1 and pixel_digest(found.image) == found.digest and len(reads) == 2
    picture(33, 1).save(tmp_path / "photo.bmp")
    assert Photo.read_by("x", partial(read_photo, tmp_path / "photo.bmp")).digest == found.digest
    picture(33, 2).save(path)
    with pytest.raises(UserError, match="photo ann/1 changed after the run started: start again"):
        _ = found.image
    path.unlink()
    with pytest.raises(UserError, match="photo ann/1 can no longer be read"):
        _ = found.image


def test_people_of_two_sources_are_two_people() -> None:
    """A name says who somebody is among the people of one dataset only."""
    data = FaceData("folder", (subject("s1", (1,), (2,)),), (person("s1", 1, source="orl"),))
    assert [p.label for p in (*data.subjects, *data.public)] == ["folder/s1", "orl/s1"]


@pytest.mark.parametrize(
    ("subjects", "public", "message"),
    [
        ((subject("a", (1,), (2,)), subject("a", (3,), (4,))), (), "two subjects named 'a': rename one"),
        ((subject("a", (1,), (2,)), subject("a", (3,), (4,), "orl")), (), "two subjects named 'a': rename one"),
        (
            (subject("a", (1,), (2,)),),
            (person("a", 1),),
            "two people x/a: nobody can be both a subject and a public person",
        ),
        ((), (person("a", 1, source="orl"), person("a", 2, source="orl")), "two people orl/a"),
        ((subject("a", (), (2,)),), (), "subject 'a' lacks references or enrolment photos"),
        ((subject("a", (1,), ()),), (), "subject 'a' lacks references or enrolment photos"),
        ((), (person("b"),), "public person 'b' has no photo"),
        ((), (person("b", 1, source="orl/c"),), "a slash in the source: 'orl/c'"),
    ],
)
def test_people_that_a_dataset_may_not_hold(
    subjects: tuple[Subject, ...], public: tuple[Person, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        FaceData("x", subjects, public)


def test_names() -> None:
    assert {"orl", "folder"} <= set(DATASETS.names())
    assert all(DATASETS.get(name).name == name for name in ("orl", "folder"))


# ---- a folder of photos -----------------------------------------------------------------------------------------------


def picture(person: int, index: int, scale: int = 2, tint: tuple[float, float, float] = (1, 0.9, 0.8)) -> Image.Image:
    """An ORL photo, enlarged and coloured."""
    image = (photo(person, index).image * np.array(tint)).astype(np.uint8)
    return Image.fromarray(image).resize((92 * scale, 112 * scale), Image.Resampling.BICUBIC)


def fill(root: Path, people: dict[str, int], count: int = 6) -> Path:
    for name, person in people.items():
        (root / name).mkdir(parents=True)
        for k in range(1, count + 1):
            picture(person, k).save(root / name / f"{k}.png")
    return root


def reasons(root: Path) -> dict[str, str]:
    return {s.name: s.reason for s in Folder(root).load().skipped}


def test_a_folder_of_people(tmp_path: Path) -> None:
    root = fill(tmp_path / "photos", {"bob": 34, "ann": 33}, 7)
    data = Folder(root).load()
    assert [s.name for s in data.subjects] == ["ann", "bob"] and data.skipped == ()
    for subject in data.subjects:
        assert len(subject.references) == 4 and len(subject.enrolment) == 3
        names = {p.name for p in (*subject.references, *subject.enrolment)}
        assert names == {f"{subject.name}/{k}.png" for k in range(1, 8)}
    assert data.public == ORL().load().public
    image = data.subjects[0].references[0].image
    assert image.shape == (224, 184, 3) and image[..., 0].mean() > image[..., 2].mean()  # colour is kept


@pytest.mark.slow
def test_the_split_is_seeded(tmp_path: Path) -> None:
    root = fill(tmp_path / "photos", {"ann": 33}, 8)

    def split(**options: int) -> tuple[list[str], str]:
        data = Folder(root, **options).load()
        return [p.name for p in data.subjects[0].references], data.fingerprint

    assert split() == split()
    splits = {tuple(split(seed=seed)[0]) for seed in range(5)}
    assert len(splits) > 1 and len({split(seed=seed)[1] for seed in range(5)}) == len(splits)
    assert len(split(references=2)[0]) == 2
    fill(root, {"zoe": 35}, 6)  # somebody else's photos do not change it
    assert [p.name for p in Folder(root).load().subjects[0].references] == split()[0]


def test_what_is_skipped_and_why(tmp_path: Path) -> None:
    root = fill(tmp_path / "photos", {"ann": 33, "bob": 34})
    (root / "ann" / "broken.jpg").write_bytes(b"\xff\xd8 this is no photo")
    (root / "ann" / "cut.png").write_bytes((root / "ann" / "1.png").read_bytes()[:900])
    (root / "ann" / "empty.png").write_bytes(b"")
    Image.fromarray(np.full((90, 90, 3), 90, np.uint8)).save(root / "ann" / "wall.png")
    (root / "ann" / ".hidden.png").write_bytes(b"x")
    (root / "ann" / "notes.txt").write_text("x")
    (root / "ann" / "more.png").mkdir()
    (root / ".git").mkdir()
    (root / "readme.md").write_text("x")
    for k in (4, 5, 6):
        (root / "bob" / f"{k}.png").unlink()
    found = reasons(root)
    damaged = {"ann/broken.jpg", "ann/cut.png", "ann/empty.png"}
    assert set(found) == {*damaged, "ann/wall.png", "ann/notes.txt", "./readme.md", "bob"}
    assert found["ann/wall.png"] == "no face found"
    assert all(found[name].startswith("unreadable: ") for name in damaged)
    assert found["ann/notes.txt"] == "no photo that can be read: .txt"
    few = "3 usable photos, 6 needed (4 references + 2 enrolment): --data references=1, or more photos"
    assert found["bob"] == few
    assert [s.name for s in Folder(root).load().subjects] == ["ann"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    """A photo stored turned or mirrored, with the tag that says so, is read as the upright one."""
    upright = picture(33, 1)
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that the tag undoes
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(turns[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    found = read_photo(tmp_path / "photo.jpg")
    assert found.shape == np.asarray(upright).shape
    assert np.abs(found.astype(int) - np.asarray(upright)).mean() < 4


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "CMYK", "1", "I;16"])
def test_modes(tmp_path: Path, mode: str) -> None:
    colour = picture(33, 1)
    gray = np.asarray(colour.convert("L"))
    path = tmp_path / ("photo.jpg" if mode == "CMYK" else "photo.png")
    if mode == "I;16":
        Image.fromarray(gray.astype(np.uint16) * 256).save(path)
    else:
        colour.convert(mode).save(path)
    found = read_photo(path)
    assert found.shape == (224, 184, 3) and found.dtype == np.uint8
    expected = np.repeat(gray[..., None], 3, 2) if mode in ("L", "LA", "1", "I;16") else np.asarray(colour)
    assert np.abs(found.astype(int) - expected).mean() < {"1": 130, "P": 25}.get(mode, 5)


def test_transparency_is_on_white(tmp_path: Path) -> None:
    image = np.zeros((20, 20, 4), np.uint8)
    image[10:, :, 3] = 255
    Image.fromarray(image).save(tmp_path / "photo.png")
    found = read_photo(tmp_path / "photo.png")
    assert (found[:10] == 255).all() and (found[10:] == 0).all()


def test_large_photos_are_reduced(tmp_path: Path) -> None:
    picture(33, 1).resize((1840, 2240)).save(tmp_path / "photo.jpg")
    assert read_photo(tmp_path / "photo.jpg").shape == (LONGEST, round(LONGEST * 1840 / 2240), 3)


def test_nothing_to_use(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs --root"):
        Folder()
    with pytest.raises(UserError, match="is not a folder"):
        Folder(tmp_path / "nowhere").load()
    (tmp_path / "root").mkdir()
    with pytest.raises(UserError, match="holds no folders"):
        Folder(tmp_path / "root").load()
    (tmp_path / "root" / "ann").mkdir()
    with pytest.raises(UserError, match=r"no person in .* has enough photos.*0 usable photos, 6 needed"):
        Folder(tmp_path / "root").load()
    for options in ({"references": 0}, {"enrolment": 0}):
        with pytest.raises(UserError, match="at least 1"):
            Folder(tmp_path, **options)
