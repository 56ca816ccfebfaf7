"""The command line. Heavy imports (torch, diffusers, matplotlib) are inside the commands, so --help is fast."""

from typing import Annotated

import typer

from iddmbench import __version__
from iddmbench.cli.app import app as local_page
from iddmbench.cli.base import app as base
from iddmbench.cli.cache import app as cache
from iddmbench.cli.check import check
from iddmbench.cli.compare import compare
from iddmbench.cli.doctor import doctor
from iddmbench.cli.errors import CommandGroup
from iddmbench.cli.evaluate import evaluate
from iddmbench.cli.export import export
from iddmbench.cli.fetch import fetch
from iddmbench.cli.leaderboard import app as leaderboard
from iddmbench.cli.list import list_plugins
from iddmbench.cli.new import new
from iddmbench.cli.report import plot, report
from iddmbench.cli.run import run
from iddmbench.cli.status import status
from iddmbench.cli.submit import submit, verify
from iddmbench.cli.sweep import sweep
from iddmbench.cli.train_base import train_base
from iddmbench.cli.variance import variance

app = typer.Typer(
    name="iddmbench", cls=CommandGroup, pretty_exceptions_enable=False, no_args_is_help=True, add_completion=False
)
app.command("run")(run)
app.command("evaluate")(evaluate)
app.command("sweep")(sweep)
app.command("status")(status)
app.command("report")(report)
app.command("plot")(plot)
app.command("compare")(compare)
app.command("variance")(variance)
app.command("submit")(submit)
app.command("verify")(verify)
app.add_typer(leaderboard, name="leaderboard")
app.command("app")(local_page)
app.command("export")(export)
app.add_typer(cache, name="cache")
app.add_typer(base, name="base")
app.command("list")(list_plugins)
app.command("fetch")(fetch)
app.command("new")(new)
app.command("check")(check)
app.command("doctor")(doctor)
app.command("train-base")(train_base)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"iddmbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """How well can face recognition link the images of a personalized diffusion model to the person?

    Start with `iddmbench doctor`, then `iddmbench run`.
    """


def main() -> None:
    """Entry point of the `iddmbench` command."""
    app()
