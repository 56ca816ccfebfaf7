"""The progress bar of `run`, with the time that is left."""

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


@contextmanager
def bar(lost: set[str] | None = None) -> Iterator[Hooks]:
    """Hooks that draw one bar over all cells on stderr; a cell's own share moves it between cells, and what fails is a line
    above it.

    Args:
        lost: gets the names of attackers that have no figures somewhere.
    """
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    progress = Progress(*columns, console=console)
    if console.is_terminal:
        progress.start()
    task = progress.add_task("loading", total=None)
    begun = -1

    def cell(name: str, cached: bool) -> None:
        nonlocal begun
        begun += 1
        progress.update(task, completed=begun, description=name + (" (cached)" if cached else ""))

    def done(outcome: CellResult) -> None:
        if not outcome.ok:
            tell(f"failed: {outcome.cell.name}: {outcome.error}")

    def without_figures(attacker: str, condition: str, error: str) -> None:
        if lost is not None:
            lost.add(attacker)
        tell(f"no figures of {attacker} for {condition}: {error}")

    def tell(text: str) -> None:
        progress.console.print(printable(text), style="red", markup=False, highlight=False, soft_wrap=True)

    def start(cells: int) -> None:
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
        progress.update(task, completed=begun + 1, description="done")
    except BaseException:
        progress.live.transient = True  # an error is told without a bar that says "loading" above it
        raise
    finally:
        if progress.live.is_started:
            progress.stop()
