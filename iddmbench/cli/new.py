"""`iddmbench new`: a working plugin with its test, in a package of its own."""

import keyword
import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from iddmbench.errors import UserError
from iddmbench.plugins import Kind, taken


def new(
    kind: Annotated[Kind, typer.Argument(help="Kind of plugin.")],
    name: Annotated[str, typer.Argument(help="Plugin name: lower case, dashes allowed.")],
    folder: Annotated[Path | None, typer.Option("--in", help="Parent folder; by default the current one.")] = None,
) -> None:
    """Create a package with a working plugin and its test; iddmbench itself is not edited.

    Then: pip install -e ./PACKAGE, iddmbench check KIND NAME, and change the code.
    """
    target = write(kind, name, folder or Path())
    typer.echo(f"wrote {target}")
    typer.echo(f"next:  pip install -e {target} && iddmbench check {kind.value} {name} && pytest {target}")


def write(kind: Kind, name: str, parent: Path) -> Path:
    """The package's folder. Raises UserError for a name that is taken or no name, or a folder that exists."""
    module = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(module) or len(name) > 60:
        raise UserError(
            f"'{name}' is not a valid plugin name: use lower-case words of letters and digits, joined by dashes"
        )
    if (other := taken(kind, name)) is not None:
        raise UserError(f"{other.called} '{name}' exists already (iddmbench list {other.plural}): choose another name")
    if parent.exists() and not parent.is_dir():
        raise UserError(f"--in {parent} is not a folder")
    target = parent / f"iddmbench-{name}"
    if target.exists():
        raise UserError(f"{target} exists: choose another name or --in another folder")
    values = {
        "KIND": kind.value,
        "PLURAL": kind.plural,
        "TITLE": kind.called,
        "NAME": name,
        "PACKAGE": f"iddmbench_{module}",
        "CLASS": "".join(part.capitalize() for part in name.split("-")),
    }
    templates = files("iddmbench.cli") / "templates"
    written = {
        "pyproject.toml": "plugin.toml",
        f"{values['PACKAGE']}/__init__.py": f"{kind.value}.py.txt",
        f"test_{module}.py": "test_plugin.py.txt",
    }
    for path, template in written.items():
        text = (templates / template).read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(text, encoding="utf-8")
    return target
