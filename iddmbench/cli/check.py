"""`iddmbench check`: run a plugin, ours or yours, through what every plugin has to keep."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from iddmbench.errors import printable
from iddmbench.plugins import Kind

if TYPE_CHECKING:
    from iddmbench.conformance import Outcome

COLORS = {"figures": "cyan", "ok": "green", "skipped": "yellow", "failed": "red"}


def check(
    kind: Annotated[Kind, typer.Argument(help="Kind of plugin.")],
    name: Annotated[str, typer.Argument(help="Plugin name, as in `list`; or onnx:PATH, jpeg-50 ...")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Option of the plugin, KEY=VALUE.")] = None,
) -> None:
    """Check a plugin: shapes, norms, determinism, images without a face, strength 0, unmodified inputs and more.

    Attackers and purifiers are tested on ORL photos, defenses and personalizers on a tiny base model, adaptive attackers on
    simulated embeddings; give slow plugins fewer steps (--set).
    For an attacker it also reports how well it recognizes public people. Exits non-zero when a check fails.
    """
    failed = 0
    for outcome in outcomes(kind, name, set_):
        typer.secho(f"{outcome.state:<8}", fg=COLORS[outcome.state], bold=True, nl=False)
        typer.echo(printable(f"{outcome.name}{': ' if outcome.message else ''}{outcome.message}"))
        failed += outcome.state == "failed"
    if failed:
        typer.echo(f"{failed} check(s) failed")
        raise typer.Exit(1)


def outcomes(kind: Kind, name: str, options: list[str] | None) -> Iterator["Outcome"]:
    """Raises UserError for an unknown plugin or option, or one that can't run here, before the first check."""
    from iddmbench.cli.run import pairs
    from iddmbench.conformance.plugin import outcomes
    from iddmbench.yaml_text import read_value

    given = pairs(options, "--set")
    if kind is Kind.dataset:  # whose options are arguments, numbers where they are numbers
        given = {key: read_value(value, f"--set {key}={value}") for key, value in given.items()}
    yield from outcomes(kind, name, given)
