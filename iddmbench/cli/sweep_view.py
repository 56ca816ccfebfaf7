"""What a sweep looks like in a terminal: its plan, a live table, and plain lines where there is no terminal."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from iddmbench.cli.progress import duration, say_findings
from iddmbench.errors import printable
from iddmbench.results.findings import Finding
from iddmbench.sweep.config import Sweep
from iddmbench.sweep.driver import Watch
from iddmbench.sweep.estimate import estimate
from iddmbench.sweep.plan import Plan
from iddmbench.sweep.price import prices
from iddmbench.sweep.task import Task, TaskResult

QUIET = 15.0
"""Seconds between two lines where there is no terminal."""


def show_plan(sweep: Sweep, plan: Plan, workers: int, console: Console) -> None:
    """The number of cells by run, what is cached, and what the rest will take."""
    table = _table(sweep, "cells", "cached", "to compute", "shared")
    first, again = Counter(t.run for t in plan.first), Counter(t.run for t in plan.again)
    for run in plan.runs:
        cells, new, shared = len(run.study.cells), first[run.name], again[run.name]
        table.add_row(Text(printable(run.name)), *map(str, (cells, cells - new - shared, new, shared)))
    table.add_section()
    table.add_row("all", *map(str, (plan.cells, plan.cached, len(plan.first), len(plan.again))))
    console.print(table)
    told = estimate(plan)
    if told.seconds is None or told.bytes is None:
        console.print("No estimate: the cache has nothing for this base and these settings. Try one subject first.")
        return
    text = f"About {duration(told.seconds / workers)} with {workers} worker(s), {told.bytes / 1e9:.2f} GB on disk"
    if told.unknown:
        text += f"; {told.unknown} cells are of defenses not measured here yet, counted like the others"
    console.print(text + ".")


def show_prices(sweep: Sweep, tflops: float, console: Console) -> None:
    """Hours, memory and disk of each run on one GPU, where these can be counted from the settings; nothing elsewhere."""
    found = [price for price in prices(sweep, tflops) if price.hours is not None]
    if not found:
        return
    table = _table(sweep, "cells", "GPU hours", "GPU memory, GB", "disk, GB")
    for one in found:
        table.add_row(
            Text(printable(one.run)), *map(str, (one.cells, _two(one.hours), _two(one.memory), _two(one.disk)))
        )
    table.add_section()
    hours, disk = sum(one.hours or 0 for one in found), sum(one.disk or 0 for one in found)
    memory = max(one.memory or 0 for one in found)
    table.add_row("all", *map(str, (sum(one.cells for one in found), _two(hours), _two(memory), _two(disk))))
    console.print(table)
    text = f"For one GPU that sustains {tflops:g} TFLOP/s (--gpu-tflops), from nothing: passes through UNet and VAE at 512 px. "
    text += "Memory is rough. What two tables share is counted in the first one."
    if unknown := sorted({name for one in found for name in one.uncounted}):
        text += f" Not counted: what {', '.join(unknown)} compute themselves."
    console.print(text, highlight=False)


def _two(value: float | None) -> str:
    """Two digits, more where the number is larger."""
    return "–" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.2g}"


@contextmanager
def live(sweep: Sweep, workers: int, quiet: bool = False) -> Iterator[Watch]:
    """Hooks that keep a table on stderr up to date; if that is not a terminal, a line now and then.

    quiet: neither, only what is wrong.
    """
    console = Console(emoji=False, stderr=True)
    view = _View(sweep, workers)

    def premise(findings: list[Finding]) -> None:
        say_findings(findings, console, "premise.parquet of each run")

    if console.is_terminal and not quiet:
        with Live(view, console=console, refresh_per_second=2):
            view.watch.premise = premise
            yield view.watch
    else:
        said = [time.monotonic()]

        def result(result: TaskResult) -> None:
            view.result(result)
            if result.status != "ok":
                said_of = f"{result.task.run} {result.task.name}: {result.status}, {result.error}"
                console.print(printable(said_of), markup=False, soft_wrap=True)
            if not quiet and (time.monotonic() - said[0] > QUIET or view.left == 0):
                said[0] = time.monotonic()
                console.print(view.line())

        def phase(name: str) -> None:
            view.phase(name)
            if not quiet:
                console.print(view.line())

        yield Watch(view.planned, result, view.flying, phase, premise)


class _View:
    """Counts by run, drawn anew at each refresh."""

    def __init__(self, sweep: Sweep, workers: int):
        self.sweep, self.workers = sweep, workers
        self.cells: dict[str, int] = {}
        self.cached: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.attacks = self.scored = 0
        self.running: list[Task] = []
        self.name, self.begun = "planning", time.monotonic()
        self.watch = Watch(self.planned, self.result, self.flying, self.phase)

    def planned(self, plan: Plan) -> None:
        self.cells = {run.name: len(run.study.cells) for run in plan.runs}
        self.cached = Counter({run.name: sum(o is not None for o in run.outcomes) for run in plan.runs})
        self.begun = time.monotonic()

    def result(self, result: TaskResult) -> None:
        if result.task.kind == "score":
            self.scored += 1
        elif result.task.kind == "attack":
            self.attacks += 1
        elif result.task.kind == "premise":
            pass  # of no cell
        elif result.status == "ok":
            self.done[result.task.run] += 1
        else:
            self.failed[result.task.run] += 1

    def flying(self, tasks: list[Task]) -> None:
        self.running = tasks[: self.workers]

    def phase(self, name: str) -> None:
        self.name, self.running = name, []

    @property
    def left(self) -> int:
        return sum(self.cells.values()) - sum((self.cached + self.done + self.failed).values())

    def line(self) -> str:
        finished, elapsed = self.done.total() + self.failed.total(), time.monotonic() - self.begun
        text = f"{self.name}: {sum(self.cells.values()) - self.left} of {sum(self.cells.values())} cells"
        if self.failed.total():
            text += f", {self.failed.total()} failed"
        if self.name == "attacking":
            text += f", {self.attacks} attacks"
        if self.name == "scoring":
            text += f", {self.scored} conditions scored"
        text += f", {duration(elapsed)}"
        if finished and self.left:
            text += f", about {duration(elapsed / finished * self.left)} left"
        return text

    def __rich__(self) -> Group:
        table = _table(self.sweep, "cells", "cached", "done", "failed", "left")
        for run, cells in self.cells.items():
            counts = (self.cached[run], self.done[run], self.failed[run])
            failed = Text(str(counts[2]), style="red" if counts[2] else "")
            table.add_row(
                Text(printable(run)), str(cells), str(counts[0]), str(counts[1]), failed, str(cells - sum(counts))
            )
        busy = [Text(f"  {task.run}: {task.name}", style="dim") for task in self.running]
        return Group(table, Text(self.line()), *busy)


def _table(sweep: Sweep, *columns: str) -> Table:
    table = Table(
        title=Text(printable(sweep.name), style="bold"),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("run", style="cyan", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table
