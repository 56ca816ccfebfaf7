"""The progress bar of `run`, with the time that is left."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from iddmbench.results.findings import FILE, Finding, lines
from iddmbench.run.pipeline import Progress as Hooks


def say_findings(findings: Sequence[Finding], console: Console, where: str = FILE) -> None:
    """A line each, the warnings first, after a few of them a count."""
    for line in lines(findings, where=where):
        style = "yellow" if line.startswith("warning: ") else "dim"
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def bar() -> Iterator[Hooks]:
    """Hooks that draw one bar over all cells on stderr; a cell's own share moves it between cells."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("loading", total=None)
        begun = -1

        def cell(name: str, cached: bool) -> None:
            nonlocal begun
            begun += 1
            progress.update(task, completed=begun, description=name + (" (cached)" if cached else ""))

        yield Hooks(
            premise=lambda findings: say_findings(findings, progress.console),
            start=lambda cells: progress.update(task, total=cells, completed=0),
            cell=cell,
            share=lambda share: progress.update(task, completed=begun + min(share, 1.0) * 0.9),
        )
        progress.update(task, completed=begun + 1, description="done")
