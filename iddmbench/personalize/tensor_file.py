"""Safetensors that come from elsewhere. Pickled files are refused: opening one runs whatever code is in it."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from iddmbench.errors import UserError, first_line

PICKLED = {".pt", ".pth", ".ckpt", ".bin", ".pkl"}


def read_tensor_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors as they are stored, and the file's metadata.

    Raises UserError for a pickled, missing, empty or damaged file.
    """
    if path.suffix.lower() in PICKLED:
        raise UserError(
            f"{path} is a pickled file, which can run any code when opened: convert it to .safetensors on a machine "
            "that you can afford to lose, or get a .safetensors file"
        )
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dict)
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} can't be read as safetensors: {first_line(error)}") from error
    if not tensors:
        raise UserError(f"{path} holds no tensor")
    return tensors, metadata
