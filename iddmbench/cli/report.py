"""`iddmbench report` and `iddmbench plot`: what a finished run looks like."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iddmbench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from iddmbench.results.run_folder import RunFolder

RUNS = Path("runs")
FORMATS = ("png", "svg", "pdf")
KINDS = ("tradeoff", "det", "cmc", "histograms", "subjects", "sheet")


def report(
    run: Annotated[
        Path | None, typer.Argument(help="Folder of a run or a sweep; the newest run in runs/ by default.")
    ] = None,
    track: Annotated[
        list[str] | None, typer.Option(help="Also log it to tensorboard, wandb or trackio; may be repeated.")
    ] = None,
) -> None:
    """Rewrite a run's figures, contact sheet and report.html, and print its table."""
    from rich.console import Console

    from iddmbench.report.terminal import print_summary
    from iddmbench.report.write import write_outputs
    from iddmbench.results.run_folder import latest, runs_of
    from iddmbench.track import trackers
    from iddmbench.track.record import Record

    told, given = trackers(track), run or latest(RUNS)
    for path in runs_of(given):
        print_summary(finished := write_outputs(path), Console(emoji=False))
        group = "" if path == given else given.resolve().name
        for tracker in told:
            typer.echo(tracker.log(Record.of(finished, group)))


def plot(
    runs: Annotated[list[Path] | None, typer.Argument(help="Run folders; the newest one in runs/ by default.")] = None,
    kind: Annotated[str, typer.Option(help=f"{', '.join(KINDS)} or all; separate several with commas.")] = "tradeoff",
    out: Annotated[
        Path | None, typer.Option(help="Output folder; by default the run's own, or the current one for several.")
    ] = None,
    formats: Annotated[str, typer.Option("--format", help="png, svg, pdf; separate several with commas.")] = "png,svg",
    x: Annotated[
        str,
        typer.Option("--x", help="Utility figure across the trade-off, e.g. kept_look: the index or one component."),
    ] = "utility_index",
    width: Annotated[
        str, typer.Option(help="screen, or for a paper: column (3.5 inches wide) or page (7.16 inches).")
    ] = "screen",
) -> None:
    """Draw figures of one run, or of several overlaid: trade-off, DET and CMC curves, histograms, subjects, images."""
    kinds = _choices(kind, KINDS, "--kind")
    wanted = _choices(formats, FORMATS, "--format")
    if out is not None and (out.is_file() or out.suffix.lower()[1:] in FORMATS):
        raise UserError(f"--out {out}: give a folder, and the kind of file with --format")
    from iddmbench.report import curves, figures
    from iddmbench.report.widths import width_of
    from iddmbench.report.write import save, save_sheet
    from iddmbench.results.comparable import check_comparable, check_same_index
    from iddmbench.results.metric_info import AXES, INDEX, INDEX_WITH_KEPT, UNIT
    from iddmbench.results.run_folder import FIGURES, RunFolder, latest, runs_of
    from iddmbench.results.summary import Summary

    width_of(width)
    if (across := AXES.get(x, x)) not in UNIT:
        raise UserError(f"--x {x}: {did_you_mean(x, [*UNIT, *AXES])}")
    opened = [RunFolder.open(run) for path in runs or [latest(RUNS)] for run in runs_of(path)]
    for warning in check_comparable(opened):
        typer.echo(f"warning: {warning}", err=True)
    if "tradeoff" in kinds and across in (INDEX, INDEX_WITH_KEPT):
        check_same_index(opened)
    if "tradeoff" in kinds and across != INDEX and not any(Summary(run).has(across) for run in opened):
        raise UserError(f"--x {x}: no run has that figure; repeat the run, or choose another --x")
    folder = out or (opened[0].path / FIGURES if len(opened) == 1 else Path())
    together: dict[str, Callable[..., Figure]] = {
        "tradeoff": partial(figures.tradeoff, across=across),
        "det": curves.det,
        "cmc": curves.cmc,
        "subjects": curves.subjects,
    }
    for name in kinds:
        if name in together:
            parts = [(name, together[name](*opened, width=width))]
        elif name == "histograms":
            parts = [(_own(name, run, opened), figures.histograms(run, width)) for run in opened]
        else:
            parts = []
            for run in opened:
                for path in save_sheet(run, folder, _own("contact_sheet", run, opened), wanted, width):
                    typer.echo(path)
        for stem, figure in parts:
            for extension in save(figure, folder, stem, wanted, width):
                typer.echo(folder / f"{stem}.{extension}")


def _own(stem: str, run: "RunFolder", runs: "list[RunFolder]") -> str:
    """A file name per run where runs can't share a figure."""
    return stem if len(runs) == 1 else f"{stem}-{runs.index(run) + 1}-{run.name}"


def _choices(text: str, known: tuple[str, ...], option: str) -> list[str]:
    """ "png, PDF" -> ["png", "pdf"]; "all" is all of several kinds. Raises UserError for an unknown one, or none."""
    names = list(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    if names == ["all"]:
        return list(known)
    for name in names:
        if name not in known:
            raise UserError(f"{option} {name}: choose from {', '.join(known)}")
    if not names:
        raise UserError(f"{option} is empty: choose from {', '.join(known)}")
    return names
