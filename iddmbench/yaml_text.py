"""YAML with the line of every key, so that a message can point at it."""

from pathlib import Path
from typing import Any

import yaml

from iddmbench.errors import UserError, first_line

LARGEST = 100_000
"""Values in a file; aliases of aliases make billions of a few lines."""
Path_ = tuple[str | int, ...]
Lines = dict[Path_, int]
"""Line (counted from 1) of the value under each path of keys and indices."""


def read_yaml(text: str, name: str) -> tuple[dict[str, Any], Lines]:
    """A mapping and its lines. Raises UserError for malformed YAML, a duplicate key, or no mapping."""
    lines: Lines = {}
    content = _read(text, name, lines)
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise UserError(f"{name}, line 1: expected KEY: VALUE, found {type(content).__name__}")
    return content, lines


def read_value(text: str, name: str) -> Any:
    """A value as it stands after KEY= on the command line. Raises UserError, starting with `name`, if it is not YAML."""
    return _read(text, name, {})


def _read(text: str, name: str, lines: Lines) -> Any:
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _walk(node, (), lines, name, ())
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or first_line(error)
        raise UserError(f"{name}{where}: {problem}") from error
    except RecursionError as error:
        raise UserError(f"{name}: nested too deeply") from error
    except (ValueError, OverflowError) as error:  # a date of month 13, a number of 5,000 digits
        raise UserError(f"{name}: {first_line(error)}") from error
    finally:
        if loader is not None:
            loader.dispose()


def read_yaml_file(path: Path) -> tuple[dict[str, Any], Lines]:
    """`read_yaml` of a file. Raises UserError when it can't be read."""
    try:
        return read_yaml(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read: {error}") from error


def _walk(node: yaml.Node | None, path: Path_, lines: Lines, name: str, above: tuple[yaml.Node, ...]) -> None:
    """Note the line of everything below `node`. above: the nodes that it stands in, which it must not contain."""
    if node is None:
        return
    line = node.start_mark.line + 1
    if any(node is outer for outer in above):
        raise UserError(f"{name}, line {line}: refers to itself")
    if len(lines) > LARGEST:
        raise UserError(f"{name}: more than {LARGEST} values, including those repeated by aliases")
    lines.setdefault(path, line)
    above = (*above, node)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            if inner in lines:
                raise UserError(
                    f"{name}, line {key.start_mark.line + 1}: '{key.value}' appears twice, first on line {lines[inner]}"
                )
            lines[inner] = key.start_mark.line + 1
            _walk(value, inner, lines, name, above)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*path, index), lines, name, above)
