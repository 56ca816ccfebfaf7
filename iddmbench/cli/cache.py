"""`iddmbench cache`: what is kept, whether it is whole, and what may go."""

import re
from pathlib import Path
from typing import Annotated

import typer

from iddmbench.cli.errors import Commands
from iddmbench.errors import UserError

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Inspect, check and clean up the cache of stage results.")
CacheFolder = Annotated[Path | None, typer.Option("--cache", help="Cache folder; IDDMBENCH_CACHE sets the default.")]
UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
DAYS = {"h": 1 / 24, "d": 1, "w": 7}


@app.command("ls")
def ls(cache: CacheFolder = None) -> None:
    """List entries and sizes by stage."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from iddmbench.store import maintenance

    store = _store(cache)
    table = Table(title=str(store.root), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("stage", "entries", "MB", "older versions", "last used"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for row in maintenance.overview(store, _current()):
        table.add_row(row.stage, str(row.entries), f"{row.bytes / 1e6:.1f}", str(row.stale), row.last_used)
    Console(emoji=False).print(table)
    if leftovers := maintenance.leftovers(store):
        typer.echo(
            f"{len(leftovers)} leftover(s) from killed processes and damaged entries: `iddmbench cache gc` removes them"
        )


@app.command("verify")
def verify(
    cache: CacheFolder = None,
    remove: Annotated[bool, typer.Option(help="Remove damaged entries, so that they are recomputed.")] = False,
) -> None:
    """Verify every entry against its checksums."""
    from iddmbench.store import maintenance

    store = _store(cache)
    whole, damaged = 0, 0
    for path, problem in maintenance.check(store):
        if problem is None:
            whole += 1
            continue
        damaged += 1
        typer.echo(f"{path.relative_to(store.root)}: {problem}")
        if remove:
            maintenance.remove(store, path)
    typer.echo(f"{whole} entries intact, {damaged} damaged{' and removed' if remove and damaged else ''}")
    if damaged and not remove:
        raise UserError("damaged entries: `iddmbench cache verify --remove` removes them")


@app.command("gc")
def gc(
    cache: CacheFolder = None,
    older_than: Annotated[str, typer.Option(help="Remove entries unused for this long: 12h, 30d, 4w.")] = "",
    max_size: Annotated[
        str, typer.Option(help="Remove the least recently used entries down to this size: 500M, 20G.")
    ] = "",
    stale: Annotated[
        bool, typer.Option(help="Remove results from other versions of the code or its packages.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
) -> None:
    """Remove leftovers, damaged entries that were set aside, and entries by age, size or version; entries in use are kept."""
    from iddmbench.store import maintenance

    store = _store(cache)
    days = _number(older_than, "--older-than", DAYS, "12h, 30d, 4w") if older_than else None
    size = _number(max_size.removesuffix("B"), "--max-size", UNITS, "500M, 20G") if max_size else None
    gone = maintenance.collect(store, days, size, _current() if stale else None, dry_run)
    verb = "would be removed" if dry_run else "removed"
    typer.echo(f"{gone.entries} entries and {gone.leftovers} leftovers {verb}, {gone.bytes / 1e6:.1f} MB")


def _current():  # type: ignore[no-untyped-def]
    from iddmbench.cells.versions import CODE, current_versions
    from iddmbench.linking.score import CODE as SCORE
    from iddmbench.store.maintenance import Current

    return Current(current_versions(), CODE | SCORE)


def _store(cache: Path | None):  # type: ignore[no-untyped-def]
    from iddmbench.store.cache import Store, default_cache

    root = cache or default_cache()
    if not root.is_dir():
        raise UserError(f"there is no cache at {root}")
    return Store(root)


def _number(text: str, option: str, units: dict[str, float], examples: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]?)", text.strip())
    unit = found[2] if found else "?"
    for known, factor in units.items():
        if found and unit.lower() == known.lower():
            return float(found[1]) * factor
    raise UserError(f"{option} {text}: write it as {examples}")
