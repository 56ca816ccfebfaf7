"""`iddmbench check`: run a plugin, ours or yours, through what every plugin has to keep."""

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from iddmbench.errors import UserError, printable

if TYPE_CHECKING:
    from iddmbench.conformance import Outcome

COLORS = {"figures": "cyan", "ok": "green", "skipped": "yellow", "failed": "red"}


class Plugin(StrEnum):
    attacker = "attacker"
    defense = "defense"


def check(
    kind: Annotated[Plugin, typer.Argument(help="What it is.")],
    name: Annotated[str, typer.Argument(help="Its name, as in `list`; or onnx:PATH.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Option of a defense, KEY=VALUE.")] = None,
) -> None:
    """Check a plugin: shapes, norms, determinism, behaviour without a face, strength 0, inputs left alone and more.

    Attackers look at photos of ORL, defenses work on a tiny base model; slow ones are quicker with fewer steps (--set).
    Of an attacker it also says how well it recognizes public people. Exits non-zero when a check fails.
    """
    failed = 0
    for outcome in outcomes(kind, name, set_):
        typer.secho(f"{outcome.state:<8}", fg=COLORS[outcome.state], bold=True, nl=False)
        typer.echo(printable(f"{outcome.name}{': ' if outcome.message else ''}{outcome.message}"))
        failed += outcome.state == "failed"
    if failed:
        typer.echo(f"{failed} check(s) failed")
        raise typer.Exit(1)


def outcomes(kind: Plugin, name: str, options: list[str] | None) -> Iterator["Outcome"]:
    """Raises UserError for an unknown plugin or option, or one that can't run here, before the first check."""
    from iddmbench.attacker import build_attacker
    from iddmbench.cli.run import pairs
    from iddmbench.conformance.plugin import attacker_outcomes, defense_outcomes
    from iddmbench.defense import DEFENSES

    if kind is Plugin.attacker:
        if options:
            raise UserError("--set is for defenses: an attacker has no options here")
        yield from attacker_outcomes(lambda: build_attacker(name), name)
    else:
        yield from defense_outcomes(DEFENSES.get(name), name, pairs(options, "--set"))
