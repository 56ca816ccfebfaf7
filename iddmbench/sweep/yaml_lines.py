"""YAML with the line of every key, so that a message can point at it."""

from pathlib import Path
from typing import Any

import yaml

from iddmbench.errors import UserError, first_line

Path_ = tuple[str | int, ...]
Lines = dict[Path_, int]
"""Line (counted from 1) of the value under each path of keys and indices."""


def read_yaml(text: str, name: str) -> tuple[dict[str, Any], Lines]:
    """A mapping and its lines. Raises UserError for malformed YAML, a key that stands twice, or no mapping."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        lines: Lines = {}
        _walk(node, (), lines, name)
        content = {} if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or first_line(error)
        raise UserError(f"{name}{where}: {problem}") from error
    finally:
        loader.dispose()
    if not isinstance(content, dict):
        raise UserError(f"{name}, line 1: expected KEY: VALUE, found {type(content).__name__}")
    return content, lines


def read_yaml_file(path: Path) -> tuple[dict[str, Any], Lines]:
    """`read_yaml` of a file. Raises UserError when it can't be read."""
    try:
        return read_yaml(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read: {error}") from error


def _walk(node: yaml.Node | None, path: Path_, lines: Lines, name: str) -> None:
    if node is None:
        return
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            if inner in lines:
                raise UserError(
                    f"{name}, line {key.start_mark.line + 1}: '{key.value}' stands twice, first in line {lines[inner]}"
                )
            lines[inner] = key.start_mark.line + 1
            _walk(value, inner, lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*path, index), lines, name)
