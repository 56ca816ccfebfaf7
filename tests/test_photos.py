"""Everything that lies in a folder of photos: formats, layouts, names, damage. What can't be used is said, and counted."""

import os
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from iddmbench.datasets.folder import Folder
from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError
from iddmbench.photos.dataset import DATASETS
from iddmbench.photos.files import HEIC_NEEDED, has_heic, photo_files, read_photo, read_size, suffixes
from iddmbench.photos.given import read_people
from iddmbench.photos.left_out import left_out_line
from iddmbench.types import FaceData, Skipped


def picture(person: int, index: int) -> Image.Image:
    return Image.fromarray(photo(person, index).image)


def fill(folder: Path, person: int, indices: range, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k in indices:
        picture(person, k).save(folder / f"{k}{suffix}")
    return folder


def load(root: Path, **options: int) -> FaceData:
    return Folder(root, **options).load()


def reasons(data: FaceData) -> dict[str, str]:
    return {one.name: one.reason for one in data.skipped}


# ---- formats -----------------------------------------------------------------------------------------------------------


def test_photos_of_every_format_are_read(tmp_path: Path) -> None:
    """Whatever this Pillow reads as a photo, written by itself where it can."""
    colour, written = picture(33, 1), set()
    known = Image.registered_extensions()
    for suffix in sorted(suffixes() & set(known)):
        path = tmp_path / f"photo{suffix}"
        for mode in ("RGB", "L", "P", "1"):
            try:
                colour.convert(mode).save(path, format=known[suffix])
            except (OSError, KeyError, ValueError, RuntimeError):
                path.unlink(missing_ok=True)
                continue
            found = read_photo(path)
            assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3, suffix
            assert min(read_size(path)) >= 1
            written.add(suffix)
            break
    common = {".jpg", ".jpeg", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".ppm", ".tga"}
    assert common <= written
    assert {path.suffix for path in photo_files(tmp_path)} == written
    assert not suffixes() & {".pdf", ".eps", ".mpg", ".h5", ".txt", ""}


@pytest.mark.skipif(".avif" not in suffixes(), reason="this Pillow has no AVIF")
def test_avif(tmp_path: Path) -> None:
    picture(33, 1).save(tmp_path / "a.avif", quality=90)
    assert np.abs(read_photo(tmp_path / "a.avif").astype(int) - np.asarray(picture(33, 1))).mean() < 4


def test_heic_is_read_with_the_extra(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    for k in range(1, 7):
        path = tmp_path / "ann" / f"IMG_{k}.HEIC"
        path.parent.mkdir(exist_ok=True)
        heif.from_pillow(picture(33, k).resize((184, 224))).save(path, quality=90)
    (subject,) = load(tmp_path).subjects
    assert len(subject.references) == 4 and len(subject.enrolment) == 2
    first = read_photo(tmp_path / "ann" / "IMG_1.HEIC")
    assert np.abs(first.astype(int) - np.asarray(picture(33, 1).resize((184, 224)))).mean() < 6


def test_without_the_extra_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the files are called HEIC or, as some phones do it, JPEG."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert not has_heic()
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
    for k in range(6):
        (tmp_path / "ann").mkdir(exist_ok=True)
        (tmp_path / "ann" / (f"{k}.heic" if k % 2 else f"{k}.jpg")).write_bytes(head)
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    text = str(caught.value)
    assert HEIC_NEEDED in text and "0 usable photos, 6 needed" in text and "pip install 'iddmbench[heic]'" in text
    assert f"6 files (6 {HEIC_NEEDED})" in text


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_keep_their_scale(tmp_path: Path, suffix: str) -> None:
    """A dark photo stays dark: every photo is divided by the same number, not by its own brightest level."""
    levels = np.linspace(0, 65535, 40 * 30).reshape(40, 30)
    for part in (1.0, 0.25):
        Image.fromarray((part * levels).astype(np.uint16)).save(tmp_path / f"x{suffix}")
        found = read_photo(tmp_path / f"x{suffix}")
        assert np.abs(found[..., 0] - part * levels / 257).max() <= 1
        assert (found == found[..., :1]).all()


def test_pixels_without_a_scale_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).random((20, 20), np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.full((20, 20), 1 << 24, np.int32)).save(tmp_path / "deep.tif")
    for name, text in (("float", "floating-point pixels"), ("deep", "more than 16 bits")):
        with pytest.raises(ValueError, match=text):
            read_photo(tmp_path / f"{name}.tif")


# ---- layouts -----------------------------------------------------------------------------------------------------------


def test_photos_in_sub_folders(tmp_path: Path) -> None:
    fill(tmp_path / "ann" / "2021" / "holiday", 33, range(1, 5), ".jpg")
    fill(tmp_path / "ann" / "2022", 33, range(5, 8), ".tiff")
    (tmp_path / "ann" / "2022" / "again").symlink_to(tmp_path / "ann")  # a loop
    (subject,) = load(tmp_path).subjects
    names = sorted(p.name for p in (*subject.references, *subject.enrolment))
    assert names == [f"ann/2021/holiday/{k}.jpg" for k in range(1, 5)] + [f"ann/2022/{k}.tiff" for k in range(5, 8)]


def test_people_may_decide_the_split(tmp_path: Path) -> None:
    ann = tmp_path / "ann"
    fill(ann / "references", 33, range(1, 4))
    fill(ann / "Enrollment", 33, range(4, 5))
    fill(ann / "surrogate" / "more", 33, range(5, 7))
    fill(ann, 33, range(7, 8))
    (ann / "references" / "notes.txt").write_text("x")
    data = load(tmp_path)
    (subject,) = data.subjects
    assert [p.name for p in subject.references] == [f"ann/references/{k}.png" for k in (1, 2, 3)]
    assert [p.name for p in subject.enrolment] == ["ann/Enrollment/4.png"]
    assert [p.name for p in subject.surrogate] == [f"ann/surrogate/more/{k}.png" for k in (5, 6)]
    assert reasons(data) == {
        "ann/references/notes.txt": "no photo that can be read: .txt",
        "ann/7.png": "is outside the person's references and enrolment folders: move it into one of them",
    }


def test_half_a_split_is_said(tmp_path: Path) -> None:
    fill(tmp_path / "ann" / "references", 33, range(1, 9))
    fill(tmp_path / "bob" / "references", 34, range(1, 3))
    (tmp_path / "bob" / "enrolment").mkdir()
    fill(tmp_path / "eve", 35, range(1, 7))
    data = load(tmp_path)
    assert [s.name for s in data.subjects] == ["eve"]
    assert reasons(data)["ann"] == "it has a folder references and none named enrolment: give both, or neither"
    assert reasons(data)["bob"] == "no usable photo in its folder enrolment"


@pytest.mark.parametrize(
    ("count", "hint"),
    [
        (5, "--data references=3, or more photos"),
        (2, "--data references=1 --data enrolment=1, or more photos"),
        (1, "more photos"),
    ],
)
def test_the_error_names_the_option_that_helps(tmp_path: Path, count: int, hint: str) -> None:
    fill(tmp_path / "ann", 33, range(1, count + 1))
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    assert f"ann: {count} usable photos, 6 needed (4 references + 2 enrolment): {hint}" in str(caught.value)
    if "--data" in hint:
        options = dict(part.split("=") for part in hint.replace(",", "").split() if "=" in part)
        (subject,) = load(tmp_path, **{key: int(value) for key, value in options.items()}).subjects
        assert len(subject.references) + len(subject.enrolment) == count


def test_nobody_vanishes(tmp_path: Path) -> None:
    """Three people, of whom one has too few photos: the list and the line say so."""
    fill(tmp_path / "ann", 33, range(1, 7))
    fill(tmp_path / "bob", 34, range(1, 4))
    (tmp_path / "empty").mkdir()
    (tmp_path / "stray.jpg").write_bytes(b"x")
    (tmp_path / "clip.mov").write_bytes(b"x")
    data = load(tmp_path)
    line = left_out_line(data.skipped, "runs/x/left-out.txt")
    assert line.startswith("Left out: 2 people (bob: 3 usable photos, 6 needed (4 references + 2 enrolment)")
    assert "empty: 0 usable photos" in line
    assert "2 files (1 no photo that can be read, 1 is outside the people's folders)" in line
    assert line.endswith("; all of it is listed in runs/x/left-out.txt") and "\n" not in line


def test_the_line_stays_one_line() -> None:
    many = [Skipped(f"p{k}", "too few") for k in range(40)] + [Skipped(f"p/{k}", "no face found") for k in range(9)]
    assert left_out_line(many) == (
        "Left out: 40 people (p0: too few; p1: too few; p2: too few; and 37 more) and 9 files (9 no face found)"
    )
    assert left_out_line([]) == ""


def test_the_layouts_are_told() -> None:
    text = "\n".join(DATASETS.get("folder").layouts)
    for part in ("ROOT/NAME/*.jpg", "sub-folders", "ROOT/NAME/references", "ROOT/NAME/enrolment", "surrogate"):
        assert part in text


# ---- names -------------------------------------------------------------------------------------------------------------


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    """Latin-1 names of an old camera or archive: photos are read, their names can be written everywhere."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Ren\xe9"))
    fill(folder, 33, range(1, 7))
    (folder / "1.png").rename(Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9 1.png")))
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.mov")).write_bytes(b"x")
    data = load(tmp_path)
    (subject,) = data.subjects
    assert subject.name == r"Ren\xe9"
    names = [p.name for p in (*subject.references, *subject.enrolment)]
    assert r"Ren\xe9/caf\xe9 1.png" in names
    assert reasons(data) == {r"Ren\xe9/bad\xff.mov": "no photo that can be read: .mov"}
    assert all(name.encode() for name in (*names, *reasons(data)))
    given = read_people(tmp_path, "images")
    assert list(given.photos) == [r"Ren\xe9"] and len(given.photos[r"Ren\xe9"]) == 6


def test_results_go_below_paths_that_are_utf8(tmp_path: Path) -> None:
    """Tables can't be written elsewhere: said at once, not after all the work."""
    from iddmbench.run.write import check_folder
    from iddmbench.store.cache import Store

    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/out\xe9"))
    with pytest.raises(
        UserError, match=r"out\\xe9: tables can't be written below a path that is not UTF-8: give another --out"
    ):
        check_folder(folder, {})
    with pytest.raises(UserError, match="give another --cache"):
        Store(folder)
    assert not folder.exists()


def test_a_line_end_in_a_name(tmp_path: Path) -> None:
    fill(tmp_path / "an\nn", 33, range(1, 7))
    (subject,) = load(tmp_path).subjects
    assert subject.name == r"an\nn"


# ---- damage ------------------------------------------------------------------------------------------------------------

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "TGA", "JPEG2000", "ICO", "PCX", "SGI")


@pytest.fixture(scope="module")
def written() -> list[bytes]:
    """A picture in every format and mode that Pillow writes."""
    rng, found = np.random.default_rng(0), []
    noise = Image.fromarray(rng.integers(0, 256, (24, 20, 3), dtype=np.uint8))
    for kind in FORMATS:
        for mode in MODES:
            buffer = BytesIO()
            try:
                noise.convert("L" if mode == "I;16" else "RGB").convert(mode).save(buffer, format=kind)
            except (OSError, KeyError, ValueError):
                continue
            found.append(buffer.getvalue())
    assert len(found) > 40
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_file_is_read_or_refused_in_one_line(
    written: list[bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Truncated, mutated, of an odd mode, or no picture at all: pixels, or one line; never another error."""
    content = bytearray(data.draw(st.sampled_from(written)))
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
    path = tmp_path_factory.getbasetemp() / "fuzzed.png"
    path.write_bytes(bytes(content))
    found = read_people({"ann": [path, np.zeros((20, 20, 3), np.uint8)]}, "images")
    if len(found.photos["ann"]) == 2:
        image = found.photos["ann"][0].image
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    else:
        (left,) = found.skipped
        assert left.reason.startswith(("unreadable: ", "too small: "))
        assert left.reason.isprintable() and len(left.reason) < 300


def test_what_can_not_be_opened(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    found = read_people({"ann": [tmp_path / "gone.png", np.zeros((20, 20, 3), np.uint8)]}, "images")
    assert found.skipped == (Skipped("ann/gone.png", "unreadable: no such file or directory"),)
