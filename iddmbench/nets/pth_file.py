"""Weights in files that torch.save wrote: read as numbers only, and loaded into a network that they must fit exactly."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from iddmbench.errors import UserError, first_line

COUNTER = "num_batches_tracked"
"""Of batch norms: older files lack it, and nothing is computed from it."""
FOREIGN = re.compile(r"GLOBAL ([\w.]+)")
"""How torch names what it refuses to run."""


def read_state(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The state dict in a file, without running what pickled code may be in it.

    Args:
        path: a state dict, or a checkpoint that holds one as "state_dict".
        prefix: the names' beginning; it is taken off, and tensors of other names are left out.

    Raises UserError for a file that holds code, is damaged, or holds no state dict.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := FOREIGN.search(str(error)):
            raise UserError(
                f"{path} contains code ({found[1]}), which is never run: save its tensors alone, "
                "torch.save(state_dict), on a machine where you trust it"
            ) from error
        raise UserError(f"{path} is no file of PyTorch weights: {first_line(error)}") from error
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        raise UserError(f"{path} is no file of PyTorch weights: {first_line(error)}") from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} contains no state dict, but {type(loaded).__name__}")
    return {str(k).removeprefix(prefix): v for k, v in state.items() if str(k).startswith(prefix)}


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Load a state dict that must have the network's tensors, of the same shapes, and no others; in float32.

    Raises UserError, with the first difference, for weights of another network, or numbers that are not finite.
    """
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith(COUNTER)]
    unknown = [key for key in state if key not in wanted and not key.endswith(COUNTER)]
    shapes = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    for keys, text in (
        (missing, "lacks {n} of its tensors (first: {key})"),
        (unknown, "has {n} others (first: {key})"),
        (shapes, "has {n} of another shape (first: {key}, {found} instead of {want})"),
    ):
        if keys:
            key = keys[0]
            found, want = (
                tuple(state[key].shape) if key in state else "",
                tuple(wanted[key].shape) if key in wanted else "",
            )
            told = text.format(n=len(keys), key=key, found=found, want=want)
            raise UserError(f"{path} contains the weights of another network, not of {what}: it {told}")
    numbers = {key: state.get(key, value).to(value.dtype) for key, value in wanted.items()}
    if wrong := [key for key, value in numbers.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise UserError(f"{path} contains numbers that are not finite (first: {wrong[0]}): get the file again")
    network.load_state_dict(numbers)
