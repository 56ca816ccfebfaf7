"""The progress bar of `run`, with the time that is left."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from iddmbench.errors import printable
from iddmbench.results.findings import FILE, Finding, lines
from iddmbench.run.outcome import CellResult
from iddmbench.run.pipeline import Progress as Hooks


def say_findings(findings: Sequence[Finding], console: Console, where: str = FILE) -> None:
    """A line each, the warnings first, after a few of them a count."""
    for line in lines(findings, where=where):
        style = "yellow" if line.startswith("warning: ") else "dim"
        console.print(printable(line), style=style, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """ "45 s", "3 min", "5.2 h", "2.1 days"."""
    for unit, size, digits in (("s", 1, 0), ("min", 60, 0), ("h", 3600, 1)):
        if seconds < {"s": 100, "min": 6000, "h": 48 * 3600}[unit]:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds / 86400:.1f} days"


@contextmanager
def bar(lost: set[str] | None = None, quiet: bool = False) -> Iterator[Hooks]:
    """Hooks that draw one bar over all cells on stderr; a cell's own share moves it between cells, and what fails is a line
    above it. If stderr is not a terminal, a line for each cell.

    Args:
        lost: gets the names of attackers that have no figures somewhere.
        quiet: no bar and no lines but of what is wrong.
    """
    columns = (
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(emoji=False, stderr=True)
    progress = Progress(*columns, console=console, disable=quiet)
    plain = not console.is_terminal and not quiet
    if console.is_terminal:
        progress.start()
    task = progress.add_task("loading", total=None)
    begun, total, started = -1, 0, time.monotonic()

    def cell(name: str, cached: bool) -> None:
        nonlocal begun
        begun += 1
        if plain:
            elapsed = time.monotonic() - started
            say(f"{begun + 1} of {total}: {name}{' (cached)' if cached else ''}, {duration(elapsed)} since the start")
        progress.update(task, completed=begun, description=name + (" (cached)" if cached else ""))

    def done(outcome: CellResult) -> None:
        if not outcome.ok:
            tell(f"failed: {outcome.cell.name}: {outcome.error}")

    def without_figures(attacker: str, condition: str, error: str) -> None:
        if lost is not None:
            lost.add(attacker)
        tell(f"no figures from {attacker} for {condition}: {error}")

    def tell(text: str) -> None:
        say(text, "red")

    def say(text: str, style: str = "") -> None:
        progress.console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)

    def start(cells: int) -> None:
        nonlocal total
        total = cells
        if console.is_terminal:
            progress.start()
        progress.update(task, total=cells, completed=0)

    hooks = Hooks(
        premise=lambda findings: say_findings(findings, progress.console),
        start=start,
        cell=cell,
        share=lambda share: progress.update(task, completed=begun + min(share, 1.0) * 0.9),
        done=done,
        lost=without_figures,
    )
    try:
        yield hooks
        if plain and begun >= 0:
            say(f"done: {begun + 1} of {total} cells in {duration(time.monotonic() - started)}")
        progress.update(task, completed=begun + 1, description="done")
    except BaseException:
        progress.live.transient = True  # an error is told without a bar that says "loading" above it
        raise
    finally:
        if progress.live.is_started:
            progress.stop()
