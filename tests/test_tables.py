"""Photos in tables as roots: parquet files, folders saved by `datasets`, datasets of the hub."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from local_hub import LocalHub, local_hub
from PIL import Image

from iddmbench.datasets.folder import Folder
from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError
from iddmbench.photos.hub_data import address, download
from iddmbench.photos.tables import read_tables, split_of, table_files
from iddmbench.run.config import dataset_options
from iddmbench.types import FaceData

PEOPLE = {"ann": 33, "ben": 34}
COUNT = 6
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def encoded(person: int, index: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(photo(person, index).image).save(stream, format="PNG")
    return stream.getvalue()


def table(people: dict[str, int] = PEOPLE, indices: range = range(1, COUNT + 1), labels: bool = False) -> pa.Table:
    """As the hub has it: an image in bytes, its file's name, and who it shows; with `labels` by number."""
    rows = [(name, number, k) for name, number in people.items() for k in indices]
    images = [{"bytes": encoded(number, k), "path": f"{k}.png"} for _, number, k in rows]
    names = list(people)
    who = pa.array([names.index(name) for name, _, _ in rows] if labels else [name for name, _, _ in rows])
    columns = pa.table({"image": pa.array(images, IMAGE), "label" if labels else "person": who})
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    return (
        columns.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        if labels
        else columns
    )


def parquet(file: Path, content: pa.Table, group: int = 5) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, file, row_group_size=group)
    return file


def check(data: FaceData, prefix: str) -> None:
    """Both people with all their photos, bit for bit."""
    assert [s.name for s in data.subjects] == list(PEOPLE) and not data.skipped
    for subject in data.subjects:
        photos = {p.name: p for p in (*subject.references, *subject.enrolment)}
        assert [len(subject.references), len(subject.enrolment)] == [4, 2]
        start = list(PEOPLE).index(subject.name) * COUNT
        for k in range(COUNT):
            found = photos[f"{subject.name}/{prefix}-{start + k:06d}"]
            expected = photo(PEOPLE[subject.name], k + 1).image
            assert np.array_equal(found.image, expected), found.name


@pytest.mark.parametrize("labels", [False, True])
def test_a_parquet_file_is_a_root(labels: bool, tmp_path: Path) -> None:
    """Row groups end in the middle of a person; numbers stand for the names that the file's features give."""
    check(Folder(parquet(tmp_path / "faces.parquet", table(labels=labels))).load(), "faces")


def test_a_table_and_folders_of_the_same_photos_are_the_same_data(tmp_path: Path) -> None:
    """The split differs, as it goes by order: so the photos of each person are compared as a whole."""
    data = Folder(parquet(tmp_path / "t" / "a.parquet", table()), references=1, enrolment=5).load()
    for name, number in PEOPLE.items():
        (tmp_path / "f" / name).mkdir(parents=True)
        for k in range(1, COUNT + 1):
            (tmp_path / "f" / name / f"{k}.png").write_bytes(encoded(number, k))
    same = Folder(tmp_path / "f", references=1, enrolment=5).load()
    digests = [[{p.digest for p in (*s.references, *s.enrolment)} for s in d.subjects] for d in (data, same)]
    assert digests[0] == digests[1]


def test_splits_are_files(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "train-00000-of-00002.parquet", table(indices=range(1, 4)))
    parquet(tmp_path / "data" / "train-00001-of-00002.parquet", table(indices=range(4, 7)))
    parquet(tmp_path / "data" / "test-00000-of-00001.parquet", table({"eve": 35}))
    (tmp_path / "README.md").write_text("a card")
    assert [s.name for s in Folder(tmp_path).load().subjects] == ["ann", "ben", "eve"]
    train = Folder(tmp_path, split="train").load()
    assert [s.name for s in train.subjects] == ["ann", "ben"]
    assert {len((*s.references, *s.enrolment)) for s in train.subjects} == {6}
    with pytest.raises(UserError, match="no such split, but test, train"):
        Folder(tmp_path, split="validation").load()
    assert split_of(Path("x/train/0000.parquet")) == "train"  # the hub's converted files


def saved(folder: Path, content: pa.Table) -> Path:
    """A folder as `Dataset.save_to_disk` writes it, with a cache of `map` beside."""
    folder.mkdir(parents=True)
    for name in ("data-00000-of-00001.arrow", "cache-1a2b.arrow"):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, content.schema) as writer:
            writer.write_table(content)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))
    return folder


def test_a_folder_that_datasets_saved_is_a_root(tmp_path: Path) -> None:
    check(Folder(saved(tmp_path / "one", table(labels=True))).load(), "data-00000-of-00001")
    saved(tmp_path / "dict" / "train", table())
    saved(tmp_path / "dict" / "test", table({"eve": 35}))
    (tmp_path / "dict" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    check(Folder(tmp_path / "dict", split="train").load(), "data-00000-of-00001")
    (tmp_path / "one" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(UserError, match="the copy is not complete"):
        Folder(tmp_path / "one").load()


def test_what_datasets_itself_saves(tmp_path: Path) -> None:
    """With the package; CI does not install it."""
    hf = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed")
    if not hasattr(hf, "Dataset"):  # the checkout's folder of that name
        pytest.skip("Hugging Face's datasets is not installed")
    features = hf.Features({"image": hf.Image(), "label": hf.ClassLabel(names=list(PEOPLE))})
    rows = [(i, n, k) for i, n in enumerate(PEOPLE.values()) for k in range(1, COUNT + 1)]
    made = hf.Dataset.from_dict(
        {"image": [{"bytes": encoded(n, k), "path": None} for _, n, k in rows], "label": [i for i, _, _ in rows]},
        features=features,
    )
    made.save_to_disk(str(tmp_path / "one"))
    check(Folder(tmp_path / "one").load(), "data-00000-of-00001")
    hf.DatasetDict({"train": made}).save_to_disk(str(tmp_path / "dict"))
    check(Folder(tmp_path / "dict").load(), "data-00000-of-00001")
    made.to_parquet(str(tmp_path / "train.parquet"))
    check(Folder(tmp_path / "train.parquet").load(), "train")


# ---- columns -----------------------------------------------------------------------------------------------------------


def test_columns_are_found_or_named(tmp_path: Path) -> None:
    both = table().append_column("camera", pa.array(["a"] * 12)).append_column("cropped", table()["image"])
    file = parquet(tmp_path / "a.parquet", both.rename_columns(["image", "who", "camera", "cropped"]))
    with pytest.raises(UserError, match=r"2 columns hold images \(image, cropped\).*--data image=COLUMN"):
        read_tables([file])
    with pytest.raises(UserError, match="--data person=COLUMN, one of who, camera"):
        read_tables([file], image="cropped")
    assert set(read_tables([file], "cropped", "who")) == set(PEOPLE)
    with pytest.raises(UserError, match="no such column of names, but who, camera"):
        read_tables([file], "image", "whom")
    with pytest.raises(UserError, match="no such column of images, but image, cropped"):
        read_tables([file], "who")
    plain = pa.table({"picture": [encoded(33, 1)], "celeb_id": [2880], "age": [30]})
    (found,) = read_tables([parquet(tmp_path / "b.parquet", plain)]).items()
    assert found[0] == "id2880" and found[1][0][1].open().read() == encoded(33, 1)


def test_what_can_not_be_used_is_said(tmp_path: Path) -> None:
    rows = table().to_pylist()
    rows[1]["image"] = {"bytes": b"no image", "path": None}
    rows[2]["image"] = {"bytes": None, "path": "away.png"}
    rows.append({"image": rows[0]["image"], "person": None})
    rows.append({"image": rows[0]["image"], "person": "c/d"})
    data = Folder(parquet(tmp_path / "a.parquet", pa.Table.from_pylist(rows, table().schema)), references=2).load()
    said = {one.name: one.reason for one in data.skipped}
    assert said["ann/a-000001"] == "unreadable: not a known image format"
    assert said["ann/a-000002"] == "unreadable: the table holds no image there, only the name of a file"
    assert said["c_d"].startswith("1 usable photos, 4 needed") and len(said) == 3
    assert [len(s.enrolment) for s in data.subjects] == [2, 4]


def test_damage_is_one_line(tmp_path: Path) -> None:
    for name in ("a.parquet", "b.arrow"):
        (tmp_path / name).write_bytes(b"PAR1 no table")
        with pytest.raises(UserError, match=f"{name} can't be read as a table") as caught:
            Folder(tmp_path / name).load()
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"nothing\.parquet is not a folder"):
        Folder(tmp_path / "nothing.parquet").load()
    (tmp_path / "photos" / "ann").mkdir(parents=True)
    with pytest.raises(UserError, match="are for tables"):
        Folder(tmp_path / "photos", person="who").load()


def test_people_are_drawn_by_name(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", table({f"p{k}": 30 + k for k in range(5)}))
    chosen = {n: [s.name for s in Folder(file, people=n).load().subjects] for n in (1, 2, 3)}
    assert [len(names) for names in chosen.values()] == [1, 2, 3]
    assert set(chosen[1]) < set(chosen[2]) < set(chosen[3]) and chosen[3] == sorted(chosen[3])
    with pytest.raises(UserError, match="people must be at least 1"):
        Folder(file, people=-1)


def test_photos_of_a_folder_stay_photos(tmp_path: Path) -> None:
    """A table that lies about does not replace them."""
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "1.png").write_bytes(encoded(33, 1))
    parquet(tmp_path / "notes.parquet", table())
    assert table_files(tmp_path) == []


# ---- the hub -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LocalHub:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with local_hub() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


def test_a_dataset_of_the_hub_is_a_root(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = parquet(tmp_path / "t.parquet", table(labels=True)).read_bytes()
    hub.datasets["ann/faces"] = {"README.md": b"a card", "data/train-00000-of-00001.parquet": content, "big.bin": b"0"}
    root = dataset_options(Path("hf://ann/faces"))["root"]
    assert root == "hf://ann/faces"
    check(Folder(root).load(), "train-00000-of-00001")
    names = {path.name for path in (tmp_path / "hub").rglob("*") if path.is_symlink()}
    assert names == {"train-00000-of-00001.parquet"}
    hub.refuses = 500  # what is here is used where the hub is not to be had
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    check(Folder(root).load(), "train-00000-of-00001")


def test_folders_of_the_hub_below_a_split(hub: LocalHub) -> None:
    photos = {f"train/{n}/{k}.png": encoded(p, k) for n, p in PEOPLE.items() for k in range(1, COUNT + 1)}
    hub.datasets["ann/folders"] = photos
    assert [s.name for s in Folder("hf://ann/folders").load().subjects] == list(PEOPLE)
    hub.datasets["ann/two"] = photos | {"test/eve/1.png": encoded(35, 1)}
    with pytest.raises(UserError, match="the splits test, train: choose one with --data split=NAME"):
        Folder("hf://ann/two").load()
    assert [s.name for s in Folder("hf://ann/two", split="train").load().subjects] == list(PEOPLE)


@pytest.mark.parametrize("root", ["hf://", "hf://ann", "hf://ann/faces/data", "hf://ann/fa ces"])
def test_an_address_that_is_none(root: str) -> None:
    with pytest.raises(UserError, match="OWNER/NAME"):
        address(root)


def test_addresses() -> None:
    assert address(Path("hf://ann/faces")) == address("hf://datasets/ann/faces") == "hf://ann/faces"
    assert address("hf:/ann/faces@refs/convert/parquet") == "hf://ann/faces@refs/convert/parquet"


def test_what_is_not_to_be_had_is_one_line(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="there is no repository ann/none, or no such revision"):
        download("hf://ann/none")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="nothing of it is here: fetch it where there is a network") as caught:
        download("hf://ann/none")
    assert "\n" not in str(caught.value)
