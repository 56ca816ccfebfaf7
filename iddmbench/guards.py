"""Checks of what a plugin returns before it is used: a wrong result is the plugin's fault, and the message names it."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from iddmbench.errors import UserError, one_line
from iddmbench.types import Embeddings

UNIT = 1e-3
"""How far from 1 the length of a float32 unit vector may be."""


@contextmanager
def errors_of(plugin: str) -> Iterator[None]:
    """Whatever a plugin raises becomes a UserError that names it ("attacker 'mine'"), with the first error as its cause.

    What is no fault of the plugin passes: a UserError says enough already, a full disk and exhausted memory end more than it.
    """
    try:
        yield
    except (UserError, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise UserError(f"{plugin} failed: {one_line(error)}") from error


def checked_embeddings(plugin: str, found: object, count: int, dim: int) -> Embeddings:
    """`found`, if it is what `Attacker.embed` promises for `count` images: float32 [count, dim], unit rows or rows of zeros.

    Raises UserError that names the plugin and says what is wrong.
    """

    def wrong(what: str) -> UserError:
        return UserError(f"{plugin} gives {what}")

    if not isinstance(found, Embeddings):
        raise wrong(f"{type(found).__name__}, not Embeddings(vectors, acquired)")
    vectors, acquired = found.vectors, found.acquired
    if not isinstance(vectors, np.ndarray) or not isinstance(acquired, np.ndarray):
        raise wrong("Embeddings whose vectors and acquired are not numpy arrays")
    if vectors.shape != (count, dim):
        raise wrong(f"vectors of shape {vectors.shape} for {count} images, expected {(count, dim)} (images, dim)")
    if acquired.shape != (count,) or acquired.dtype != bool:
        raise wrong(f"acquired of {acquired.dtype} {acquired.shape}, expected bool {(count,)}")
    if vectors.dtype != np.float32:
        raise wrong(f"vectors of {vectors.dtype}, expected float32 (vectors.astype(np.float32))")
    if not np.isfinite(vectors).all():
        raise wrong("NaN or infinite vectors: are its weights damaged?")
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if vectors[~acquired].any():
        raise wrong("a vector where it found no face: it must be zero there")
    if count and (off := np.abs(lengths[acquired] - 1)).size and off.max() > UNIT:
        raise wrong(f"vectors of length {lengths[acquired][off.argmax()]:.4g}, expected 1: divide each by its length")
    return found


def checked_images(plugin: str, images: object, shape: tuple[int, ...], why: str = "") -> np.ndarray:
    """`images`, if they are uint8 of that shape [N, S, S, 3]. Raises UserError that names the plugin."""
    if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape == shape:
        return images
    if isinstance(images, np.ndarray):
        given = f"{images.dtype} {images.shape}"
    else:
        given = type(images).__name__ + (f" of {len(images)}" if isinstance(images, list | tuple) else "")
    raise UserError(f"{plugin} gives {given}, expected uint8 {shape}{why}")
