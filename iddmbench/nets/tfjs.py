"""Graph models of TensorFlow.js: a JSON file with the graph and a list of the weights, and files of raw numbers beside it.

Format: "model.json" of tfjs-converter, type "graph-model" (docs of @tensorflow/tfjs-converter). Nothing in it is executed.
"""

import base64
import json
import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from iddmbench.errors import UserError, first_line

DTYPES = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "uint8": "u1", "uint16": "<u2", "bool": "?"}


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        name, op: of the graph ("conv1/Conv2D", "Conv2D").
        inputs: names of nodes and weights.
        attributes: lists of numbers, texts and flags by name; others are left out.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class TfjsGraph:
    """Attributes:
    nodes: in the order of the file, constants left out.
    weights: by name; float32 where the file quantizes floats, else as stored.
    """

    nodes: tuple[Node, ...]
    weights: dict[str, np.ndarray]


def weight_files(path: Path) -> list[Path]:
    """The files of numbers that a model.json names, beside it. Raises UserError if the file is not one."""
    return [path.with_name(name) for group in _groups(path, _document(path)) for name in group["paths"]]


def read_tfjs(path: Path) -> TfjsGraph:
    """A graph model, from its JSON file; the files of numbers lie beside it under the names that it gives.

    Raises UserError in one line when a file is absent, damaged, or of another format.
    """
    document = _document(path)
    try:
        nodes = tuple(
            Node(n["name"], n["op"], tuple(n.get("input", ())), _attributes(n.get("attr", {})))
            for n in document["modelTopology"]["node"]
            if n["op"] != "Const"
        )
        weights: dict[str, np.ndarray] = {}
        for group in _groups(path, document):
            weights |= _numbers(path, group)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not a readable TensorFlow.js graph model: {first_line(error)}") from error
    return TfjsGraph(nodes, weights)


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:  # of JSON and of UTF-8
        raise UserError(f"{path} is not a JSON file: {first_line(error)}") from error
    if not isinstance(document, dict) or document.get("format") != "graph-model":
        raise UserError(f"{path} is not a TensorFlow.js graph model")
    return document


def _groups(path: Path, document: dict[str, Any]) -> list[dict[str, Any]]:
    groups = document.get("weightsManifest")
    if not isinstance(groups, list) or not all(
        isinstance(g, dict) and isinstance(g.get("paths"), list) for g in groups
    ):
        raise UserError(f"{path} lists no weight files")
    for name in (name for group in groups for name in group["paths"]):
        if not isinstance(name, str) or PurePosixPath(name).name != name or "\\" in name:
            raise UserError(f"{path} lists a weight file outside its folder: {name!r}")
    return groups


def _numbers(path: Path, group: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of one group: its files in a row, cut in the order of its list."""
    try:
        data = b"".join(path.with_name(name).read_bytes() for name in group["paths"])
    except OSError as error:
        raise UserError(f"{error.filename}, the weights of {path.name}, can't be read: {error.strerror}") from error
    arrays, start = {}, 0
    for entry in group["weights"]:
        stored = entry.get("quantization", entry)["dtype"]
        if stored not in DTYPES:
            raise UserError(f"{path} holds weights of type {stored!r}; known: {', '.join(DTYPES)}")
        count = math.prod(entry["shape"])
        size = count * np.dtype(DTYPES[stored]).itemsize
        if start + size > len(data):
            raise UserError(
                f"the weights of {path} are cut off: {len(data)} bytes, {entry['name']} ends at {start + size}"
            )
        array = np.frombuffer(data, DTYPES[stored], count, start).reshape(entry["shape"])
        arrays[entry["name"]] = _plain(array, entry)
        start += size
    if start != len(data):
        raise UserError(f"the weights of {path} have {len(data)} bytes, but it describes {start}")
    return arrays


def _plain(array: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    """Float32 for what is stored in fewer bits: float16, or value = scale * integer + min."""
    how = entry.get("quantization")
    if how is None:
        return array.copy()
    if how["dtype"] == "float16":
        return array.astype(np.float32)
    return (array.astype(np.float32) * np.float32(how["scale"]) + np.float32(how["min"])).astype(np.float32)


def _attributes(stored: dict[str, Any]) -> dict[str, Any]:
    """Lists of integers, texts (base64 in the file) and flags."""
    found: dict[str, Any] = {}
    for name, value in stored.items():
        if "i" in value.get("list", {}):
            found[name] = [int(number) for number in value["list"]["i"]]
        elif "s" in value:
            found[name] = base64.b64decode(value["s"]).decode()
        elif "b" in value:
            found[name] = bool(value["b"])
    return found
