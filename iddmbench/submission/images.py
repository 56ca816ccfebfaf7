"""A stranger's image files: decoding without surprises, and perceptual hashes that tell copies from new images."""

import io

import numpy as np
from PIL import Image
from scipy.fft import dctn

from iddmbench.errors import UserError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST_SIDE = 2048
HASH_SIDE, FREQUENCIES = 64, 16
BITS = FREQUENCIES**2


def decode(content: bytes, side: int, name: str) -> np.ndarray:
    """A PNG as uint8 [side, side, 3]; only its pixels are kept, no text, profile or trailing bytes.

    The size is read from the header and checked before any pixel is unpacked. Raises UserError that names the file when it is
    no PNG, not 8-bit RGB or gray, animated, damaged or of another size.
    """
    if not content.startswith(SIGNATURE):
        raise UserError(f"{name} is not a PNG image")
    # Pillow turns 16 bits a channel into 8 without a word; depth and colour type are bytes 24 and 25, in the first chunk.
    if len(content) > 25 and content[12:16] == b"IHDR" and (content[24] != 8 or content[25] not in (0, 2)):
        raise UserError(f"{name} is not a still 8-bit RGB or gray PNG")
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.size != (side, side) or side > LARGEST_SIDE:
                raise UserError(
                    f"{name} is {image.width} x {image.height} pixels, the base model makes {side} x {side}"
                )
            if image.mode not in ("RGB", "L") or getattr(image, "n_frames", 1) != 1:
                raise UserError(f"{name} is not a still 8-bit RGB or gray PNG")
            return np.asarray(image.convert("RGB"))
    except UserError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise nearly anything; all mean the same here
        raise UserError(f"{name} is a damaged PNG ({type(error).__name__})") from error


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """Is each of the 16 x 16 lowest frequencies above their median? bool [256].

    A DCT hash (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions"), finer than the usual 8 x 8
    because faces in one frame differ little. Re-coding, noise, blur and light leave it within some bits; cropping does not.

    Args:
        image: uint8 [H, W, 3].
    """
    gray = Image.fromarray(image).convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(gray, dtype=np.float64), norm="ortho")[:FREQUENCIES, :FREQUENCIES].ravel()
    return low > np.median(low)


def hashes(images: np.ndarray) -> np.ndarray:
    """bool [N, 256] of uint8 [N, H, W, 3]."""
    return np.stack([perceptual_hash(image) for image in images]) if len(images) else np.zeros((0, BITS), bool)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Differing bits between every pair of bool [N, 256] and [M, 256]: int [N, M]."""
    x, y = a.astype(np.float32), b.astype(np.float32)
    return np.rint(x.sum(1)[:, None] + y.sum(1)[None] - 2 * x @ y.T).astype(int)


def is_flat(image: np.ndarray) -> bool:
    """Shows nothing: its hash would be that of noise."""
    return float(image.std()) < 2.0


def to_hex(bits: np.ndarray) -> str:
    """bool [256] as 64 hex digits."""
    return np.packbits(bits).tobytes().hex()


def from_hex(text: str) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8)).astype(bool)


def png(image: np.ndarray) -> bytes:
    """uint8 [H, W, 3] as PNG bytes without metadata."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", optimize=True)
    return stream.getvalue()
