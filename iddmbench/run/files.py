"""Reading and writing of stage results: images, arrays, adapters. Nothing is pickled."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from iddmbench.types import Embeddings


def write_images(folder: Path, images: np.ndarray) -> None:
    """uint8 [N, H, W, 3] as 00.png, 01.png ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:02d}.png")


def read_images(folder: Path) -> np.ndarray:
    """uint8 [N, H, W, 3] of a folder that `write_images` filled."""
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))])


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
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def write_text(path: Path, text: str) -> None:
    """Write beside, then rename: a reader sees the old file or the new one."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def write_table(path: Path, table: pd.DataFrame) -> None:
    part = path.with_name(path.name + ".part")
    table.to_parquet(part, index=False)
    part.replace(path)
