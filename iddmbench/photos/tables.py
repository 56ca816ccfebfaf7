"""Photos in tables: parquet files as the hub has them, and folders that `datasets` saved (`save_to_disk`, Arrow files).

A photo's pixels are decoded on each access. Of a parquet file one row group is in memory; an Arrow file is mapped.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from iddmbench.errors import UserError, first_line
from iddmbench.paths import readable
from iddmbench.photos.files import folders, photo_files

PARQUET, ARROW = ".parquet", ".arrow"
STATE = "state.json"
"""What `save_to_disk` writes beside its Arrow files, naming them."""
PEOPLE = (
    "person",
    "identity",
    "subject",
    "name",
    "label",
    "person_id",
    "identity_id",
    "celeb_id",
    "celebrity",
    "class",
)
"""Names of a column that says who is on a photo, the likeliest first."""
DEPTH = 2
"""Folders below the root that are searched for tables."""
SHARD = re.compile(r"(.+?)-\d+-of-\d+")
HELD = 2
"""Row groups, and Arrow files, that are kept open."""


@dataclass(frozen=True)
class TablePhoto:
    """An encoded photo in a row of a table. It opens as a file does.

    index: of its row in the file.
    """

    file: Path
    column: str
    index: int

    def open(self, mode: str = "rb") -> BytesIO:
        """The photo's bytes. Raises ValueError where the row holds none, OSError where the file is gone."""
        value = _value(self.file, self.column, self.index)
        content = value.get("bytes") if isinstance(value, dict) else value
        if not content:
            named = value.get("path") if isinstance(value, dict) else None
            raise ValueError("the table holds no image there" + (", only the name of a file" if named else ""))
        return BytesIO(content)


@dataclass(frozen=True)
class _Table:
    """One file: its schema, and how many rows each part has."""

    file: Path
    schema: pa.Schema
    features: dict[str, Any]

    @property
    def images(self) -> list[str]:
        """Columns of images: as `datasets` writes them (bytes and path), or plain bytes."""
        return [field.name for field in self.schema if _is_image(field.type)]

    def names(self, column: str) -> list[str] | None:
        """What the numbers of a column stand for; None where they are plain."""
        found = self.features.get(column)
        return found.get("names") if isinstance(found, dict) and isinstance(found.get("names"), list) else None


def table_files(root: Path) -> list[Path]:
    """The tables that `root` is or holds, by name; none where its folders hold photos."""
    if root.is_file():
        return [root] if root.suffix.lower() in (PARQUET, ARROW) else []
    found, level = [], [root]
    for _ in range(DEPTH + 1):
        for folder in level:
            found += _named(folder) if (folder / STATE).is_file() else _tables(folder)
        level = [inner for folder in level for inner in folders(folder)]
    return [] if any(photo_files(folder) for folder in folders(root)) else sorted(found)


def _tables(folder: Path) -> list[Path]:
    return [
        p for p in folder.iterdir() if p.suffix.lower() in (PARQUET, ARROW) and not p.name.startswith((".", "cache-"))
    ]


def _named(folder: Path) -> list[Path]:
    """The files that a saved dataset consists of; others beside them are its caches."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        names = [str(one["filename"]) for one in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / STATE} can't be read ({first_line(error)}): save the dataset again") from error
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise UserError(f"{folder} lacks {missing[0]}, which its {STATE} names: the copy is not complete")
    return [folder / name for name in names]


def split_of(file: Path) -> str:
    """ "train" of train-00000-of-00004.parquet and of train/data-00000-of-00001.arrow."""
    stem = SHARD.fullmatch(file.stem)
    name = stem[1] if stem else file.stem
    return file.parent.name if name == "data" or name.isdigit() else name


def read_tables(
    files: Sequence[Path], image: str = "", person: str = "", split: str = ""
) -> dict[str, list[tuple[str, TablePhoto]]]:
    """Everybody's photos, each with its name ("ann/train-000012"), in the order of files and rows.

    Args:
        image, person: columns; found by type and name where they are not given. split: only files of this one.

    Raises UserError for an unknown split or column, where it is not clear which column to take, and for damaged files.
    """
    if split:
        known = sorted({split_of(file) for file in files})
        files = [file for file in files if split_of(file) == split]
        if not files:
            raise UserError(f"--data split={split}: there is no such split, but {', '.join(known)}")
    found: dict[str, list[tuple[str, TablePhoto]]] = {}
    for file in files:
        table = _opened(file)
        pictures = _image_column(table, image)
        who = _person_column(table, person, pictures)
        words = table.names(who)
        for index, value in enumerate(_column(file, who)):
            if value is None:
                continue
            name = person_name(words[value] if words is not None and 0 <= value < len(words) else value)
            found.setdefault(name, []).append((f"{name}/{file.stem}-{index:06d}", TablePhoto(file, pictures, index)))
    return found


def person_name(value: Any) -> str:
    """A person's name as a folder can have it; a number gets "id" before it, since `--subjects 12` means the first twelve."""
    text = readable(str(value)).strip().replace("/", "_").replace("\\", "_").lstrip(".") or "_"
    return f"id{text}" if re.fullmatch(r"(id)*[0-9]+", text) else text


def _image_column(table: _Table, wanted: str) -> str:
    images = table.images
    if wanted:
        if wanted not in images:
            raise UserError(
                f"--data image={wanted}: {table.file.name} has no such column of images, but {_list(images)}"
            )
        return wanted
    if len(images) != 1:
        fix = "name one with --data image=COLUMN" if images else f"its columns are {_list(table.schema.names)}"
        raise UserError(f"{table.file}: {len(images)} columns hold images ({_list(images)}): {fix}")
    return images[0]


def _person_column(table: _Table, wanted: str, image: str) -> str:
    others = [f.name for f in table.schema if f.name != image and _is_name(f.type)]
    if wanted:
        if wanted not in others:
            raise UserError(
                f"--data person={wanted}: {table.file.name} has no such column of names, but {_list(others)}"
            )
        return wanted
    lower = {name.lower(): name for name in others}
    if likely := [lower[name] for name in PEOPLE if name in lower]:
        return likely[0]
    if len(others) == 1:
        return others[0]
    raise UserError(
        f"{table.file}: it is not clear which column says who is on a photo: name it with --data person=COLUMN, one of "
        f"{_list(others)}"
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_name(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)


def _damaged(file: Path, error: Exception) -> UserError:
    return UserError(f"{file} can't be read as a table ({first_line(error)}): fetch or save it again")


def _opened(file: Path) -> _Table:
    try:
        schema = pq.read_schema(file) if file.suffix.lower() == PARQUET else _arrow(file).schema
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, error) from error
    return _Table(file, schema, _features(file, schema))


def _features(file: Path, schema: pa.Schema) -> dict[str, Any]:
    """What `datasets` says of the columns: in the schema, else in dataset_info.json."""
    beside = file.parent / "dataset_info.json"
    try:
        if text := (schema.metadata or {}).get(b"huggingface"):
            return dict(json.loads(text)["info"]["features"])
        if beside.is_file():
            return dict(json.loads(beside.read_text(encoding="utf-8"))["features"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # numbers stay numbers
    return {}


def _column(file: Path, column: str) -> list[Any]:
    try:
        if file.suffix.lower() == PARQUET:
            return pq.read_table(file, columns=[column]).column(column).to_pylist()
        return _arrow(file).column(column).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, error) from error


def _value(file: Path, column: str, index: int) -> Any:
    if file.suffix.lower() != PARQUET:
        return _arrow(file).column(column)[index].as_py()
    for group, (start, end) in enumerate(_groups(file)):
        if start <= index < end:
            return _row_group(file, column, group)[index - start].as_py()
    raise ValueError(f"the table has no row {index}")


@lru_cache(maxsize=HELD)
def _arrow(file: Path) -> pa.Table:
    """Mapped, so that only what is read takes memory. `datasets` writes the stream format."""
    source = pa.memory_map(str(file))
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(source).read_all()


@lru_cache(maxsize=64)
def _groups(file: Path) -> list[tuple[int, int]]:
    """First row and the one after the last, of each row group."""
    meta, start, found = pq.read_metadata(file), 0, []
    for group in range(meta.num_row_groups):
        found.append((start, start := start + meta.row_group(group).num_rows))
    return found


@lru_cache(maxsize=HELD)
def _row_group(file: Path, column: str, group: int) -> pa.ChunkedArray:
    return pq.ParquetFile(file).read_row_group(group, columns=[column]).column(column)
