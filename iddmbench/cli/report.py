"""`iddmbench report` and `iddmbench plot`: what a finished run looks like."""

from pathlib import Path
from typing import Annotated

import typer

from iddmbench.errors import UserError

RUNS = Path("runs")
FORMATS = ("png", "svg", "pdf")


def report(
    run: Annotated[Path | None, typer.Argument(help="Run folder; the newest one in runs/ by default.")] = None,
) -> None:
    """Write a run's figures, contact sheet and report.html again, and print its table."""
    from rich.console import Console

    from iddmbench.run.folder import latest
    from iddmbench.run.outputs import write_outputs
    from iddmbench.run.summary_text import print_summary

    print_summary(write_outputs(run or latest(RUNS)), Console())


def plot(
    runs: Annotated[list[Path] | None, typer.Argument(help="Run folders; the newest one in runs/ by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; by default the run's figures, or here for several.")] = None,
    formats: Annotated[str, typer.Option("--format", help="png, svg, pdf; several with commas.")] = "png,svg",
) -> None:
    """Draw the trade-off curve of a run, or of several over each other."""
    kinds = [kind.strip().lower() for kind in formats.split(",") if kind.strip()]
    for kind in kinds:
        if kind not in FORMATS:
            raise UserError(f"--format {kind}: choose from {', '.join(FORMATS)}")
    if not kinds:
        raise UserError(f"--format is empty: choose from {', '.join(FORMATS)}")
    if out is not None and (out.is_file() or out.suffix.lower()[1:] in FORMATS):
        raise UserError(f"--out {out}: give a folder, and the kind of file with --format")
    from iddmbench.run.compare import check_comparable
    from iddmbench.run.figures import tradeoff
    from iddmbench.run.folder import FIGURES, RunFolder, latest
    from iddmbench.run.outputs import save

    opened = [RunFolder.open(path) for path in runs or [latest(RUNS)]]
    for warning in check_comparable(opened):
        typer.echo(f"warning: {warning}", err=True)
    folder = out or (opened[0].path / FIGURES if len(opened) == 1 else Path())
    for kind in save(tradeoff(*opened), folder, "tradeoff", dict.fromkeys(kinds)):
        typer.echo(folder / f"tradeoff.{kind}")
