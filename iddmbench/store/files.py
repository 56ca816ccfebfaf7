"""Reading and writing of stage results: images, arrays, adapters. Nothing is pickled."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from iddmbench.types import Embeddings


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file or a folder that takes the place of `path` at the end: a reader sees the old one or the new one.

    What was written goes when the block raises. A folder takes the place of nothing, or of an empty one.
    """
    part = path.with_name(f".{path.name}.part")
    _remove(part)
    try:
        yield part
        part.replace(path)
    except BaseException:
        _remove(part)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_images(folder: Path, images: np.ndarray) -> None:
    """uint8 [N, H, W, 3] as 00.png, 01.png ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:02d}.png")


def read_images(folder: Path) -> np.ndarray:
    """uint8 [N, H, W, 3] of a folder that `write_images` filled."""
    paths = sorted(folder.glob("*.png"), key=lambda path: int(path.stem))
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


def copy_images(source: Path, target: Path) -> None:
    """Make `target` hold the images of `source` and no others; a file that is there already is left alone."""
    target.mkdir(parents=True, exist_ok=True)
    kept = {entry.name: entry.stat() for entry in os.scandir(target)}
    for entry in os.scandir(source):
        if not entry.name.endswith(".png"):
            continue
        new, old = entry.stat(), kept.pop(entry.name, None)
        if old is None or (old.st_size, old.st_mtime_ns) != (new.st_size, new.st_mtime_ns):
            shutil.copy2(entry.path, target / entry.name)
    for name in kept:
        (target / name).unlink()


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    np.savez(path, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def write_embeddings(path: Path, embeddings: Embeddings) -> None:
    write_arrays(path, vectors=embeddings.vectors, acquired=embeddings.acquired)


def read_embeddings(path: Path) -> Embeddings:
    arrays = read_arrays(path)
    return Embeddings(arrays["vectors"], arrays["acquired"])


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        # Its own error hides the operating system's: "I/O error: No space left on device (os error 28)".
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def read_tensors(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def write_text(path: Path, text: str) -> None:
    """A whole file at once, as by `replacing`."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """As `write_text`."""
    with replacing(path) as part:
        part.write_bytes(content)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """As `write_text`, as Parquet."""
    with replacing(path) as part:
        table.to_parquet(part, index=False)
