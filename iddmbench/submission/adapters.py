"""A bundle's adapters: safetensors files, nothing else, that hold the tensors which the bundle's settings make.

Nothing is unpickled: a safetensors file is a JSON header and numbers. It is parsed here by hand, so that anything else is
named for what it is.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel
from iddmbench.personalize.personalizer import Personalizer
from iddmbench.seeds import Seeds
from iddmbench.submission.read import Bundle, strict_json
from iddmbench.submission.schema import printable

MOST_HEADER = 4 << 20
KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
FOREIGN = {
    b"\x80": "a pickle, which could run anything and is never opened",
    b"PK\x03\x04": "a zip file, as torch.save writes around a pickle, which is never opened",
}
"""What a file may begin with, and what it then is."""


def check_adapters(bundle: Bundle, base: BaseModel, personalizer: Personalizer, settings: Any) -> list[str]:
    """What is wrong with the bundle's adapters, one line for the first of each; empty for a bundle without any."""
    cells = [c for c in bundle.meta.cells if bundle.meta.adapters and c.status == "ok" and c.defense != "generic"]
    wanted = expected(base, personalizer, settings) if cells else None
    problems = []
    for cell in cells:
        try:
            check_adapter(read_safetensors(bundle.adapter(cell), cell.adapter), wanted, cell.adapter)
        except UserError as error:
            problems.append(str(error))
    return problems


def expected(base: BaseModel, personalizer: Personalizer, settings: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what the personalizer stores of a model on that base, before its first step."""
    with personalizer.trainer(base, settings, torch.zeros(0), Seeds(0).child("shapes")) as trainer:
        return {name: tuple(tensor.shape) for name, tensor in personalizer.tensors(trainer.model()).items()}


def check_adapter(tensors: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]] | None, name: str) -> None:
    """Raises UserError for tensors that are not finite, or other than those that are wanted (None: not known)."""
    for key, values in tensors.items():
        if not np.isfinite(values).all():
            raise UserError(f"{name} holds non-finite numbers, in {printable(key, 80)!r}")
    if wanted is None:
        return
    if other := sorted(set(tensors) ^ set(wanted)):
        which = "lacks" if other[0] in wanted else "has an unexpected tensor"
        raise UserError(
            f"{name} is not an adapter for the bundle's base and settings: it {which} {printable(other[0], 80)!r}"
        )
    for key, shape in wanted.items():
        if tensors[key].shape != shape:
            raise UserError(
                f"{name} is not an adapter for the bundle's base and settings: {printable(key, 80)!r} is {tensors[key].shape}, "
                f"not {shape}"
            )


def read_safetensors(content: bytes, name: str) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, by name. Raises UserError for anything else, a pickle by name, and for a header whose
    tensors do not fill the file one after another."""
    for start, kind in FOREIGN.items():
        if content.startswith(start):
            raise UserError(f"{name} is not a safetensors file but {kind}")
    size = int.from_bytes(content[:8], "little") if len(content) >= 8 else -1
    if not 0 < size <= min(MOST_HEADER, len(content) - 8):
        raise UserError(f"{name} is not a safetensors file")
    header = strict_json(content[8 : 8 + size], f"{name}, header")
    header.pop("__metadata__", None)
    data = memoryview(content)[8 + size :]
    found, reached = {}, 0
    try:
        for key, facts in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            shape, (begin, end) = [int(n) for n in facts["shape"]], facts["data_offsets"]
            if (stored := KINDS.get(facts["dtype"])) is None:
                raise UserError(
                    f"{name}: {printable(key, 80)!r} holds {printable(str(facts['dtype']), 20)}, not floats"
                )
            if (
                begin != reached
                or min(shape, default=0) < 0
                or end - begin != math.prod(shape) * np.dtype(stored).itemsize
            ):
                raise ValueError("offsets")
            found[key] = np.frombuffer(data[begin:end], dtype=stored).reshape(shape)
            reached = end
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{name} is a damaged safetensors file") from error
    if reached != len(data):
        raise UserError(f"{name} is a damaged safetensors file: there is data after its tensors")
    return found
