"""`iddmbench status`: how far a run or sweep is, from its log."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from iddmbench.errors import UserError, printable


def status(
    folder: Annotated[Path, typer.Argument(help="Folder of a run or a sweep.")],
    failures: Annotated[int, typer.Option(min=0, help="Number of failed cells to list.")] = 20,
) -> None:
    """Show the progress of a run or sweep: cells done, failed and left, seconds per cell, whether a process is running."""
    from rich.console import Console
    from rich.markup import escape

    from iddmbench.cli.progress import say_findings
    from iddmbench.cli.sweep_view import duration
    from iddmbench.results.findings import read_findings
    from iddmbench.results.run_folder import runs_of
    from iddmbench.run.journal import read_journal
    from iddmbench.run.write import is_claimed

    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}")
    events = list(read_journal(folder))
    begins = [i for i, event in enumerate(events) if event["event"] == "begin"]
    if not begins:
        raise UserError(f"{folder} is not a run or sweep folder: it has no log.jsonl")
    latest = events[begins[-1] :]
    console = Console(emoji=False)
    working = is_claimed(folder)
    state = "finished" if latest[-1]["event"] == "end" else "running" if working else "stopped"
    console.print(f"[bold]{escape(folder.name)}[/]: {state} ({escape(str(latest[0].get('process', '')))})")
    cells = last_of_each_cell(events)
    for run, total in latest[0].get("runs", {}).items():
        own = [event for (name, _), event in cells.items() if name == run]
        counts = Counter("failed" if event["status"] != "ok" else "done" for event in own)
        # Cells that were in the cache from the start have no line of their own in a sweep.
        known = max(counts["done"], total - counts["failed"]) if state == "finished" else counts["done"]
        text = f"  {run}: {known} of {total} cells"
        if counts["failed"]:
            text += f", {counts['failed']} failed"
        seconds = [event["seconds"] for event in own if event["status"] == "ok" and not event["cached"]]
        if seconds:
            text += f", {sum(seconds) / len(seconds):.1f} s each"
        console.print(escape(text))
    if cached := latest[0].get("cached"):
        console.print(f"  {cached} were computed before it began")
    if state != "running" and state != "finished":
        console.print("  rerun the command to resume")
    for memory in peak_memory(folder):
        console.print(memory)
    say_findings([f for path in runs_of(folder) for f in read_findings(path)], console)
    failed = [event for event in cells.values() if event["status"] != "ok"]
    for event in failed[:failures]:
        where = f"{event['run']} {event['name']}, {duration(event['seconds'])}: {event['error']}"
        console.print(f"  [red]failed[/] {escape(printable(where))}", no_wrap=True, overflow="ellipsis", crop=True)
    if len(failed) > failures:
        console.print(f"  and {len(failed) - failures} more (--failures)")


def last_of_each_cell(events: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """The latest event of each cell: one that failed may have been done since."""
    return {(event["run"], event["name"]): event for event in events if event["event"] == "cell"}


def peak_memory(folder: Path) -> list[str]:
    """Seconds by stage and the peak of memory, of the runs that are finished."""
    from iddmbench.results.run_folder import RunFolder, runs_of

    lines = []
    for path in runs_of(folder):
        try:
            run = RunFolder.open(path)
        except UserError:
            continue
        table = run.cells
        stages = [c for c in table.columns if c.startswith("seconds_")]
        means = ", ".join(f"{c[8:]} {table[c].mean():.1f} s" for c in stages if table[c].notna().any())
        lines.append(f"  {run.name}: mean per cell: {means}; peak memory {table['peak_memory_mb'].max() / 1000:.2f} GB")
    return lines
