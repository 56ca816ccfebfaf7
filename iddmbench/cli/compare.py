"""`iddmbench compare`: two conditions, of one run or of two, over the same people."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iddmbench.errors import UserError, did_you_mean, printable

if TYPE_CHECKING:
    from rich.table import Table

    from iddmbench.results.differences import Difference
    from iddmbench.results.paired import Side


FEWEST = 6
"""People from which on a sign-flip test can give an interval (`iddmbench.metrics.paired`)."""


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Finished run folder.")],
    b: Annotated[
        Path | None, typer.Argument(metavar="B", help="Run to compare with; by default A's undefended model.")
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            help="Condition: iddm-1.00, none ...; give two for A and B. Default: the defense at its highest strength."
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write the table to this file.")] = None,
) -> None:
    """Paired differences A - B over the people in both: privacy by attacker, and utility, with intervals and p-values."""
    from rich.console import Console

    from iddmbench.results.differences import check_sides, differences, table

    first, second = _sides(a, b, condition or [])
    for warning in check_sides(first, second):
        typer.echo(printable(f"warning: {warning}"), err=True)
    found = differences(first, second)
    if csv is not None:
        table(found).to_csv(csv, index=False)
    console = Console()
    for name, (summary, chosen) in (("A", first), ("B", second)):
        text = f"{name}: {chosen.title}, {summary.run.name}"
        console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
    people = max(one.found.subjects for one in found)
    console.print(_table(found, people))
    told = [f"Over the {people} people in both. Sign-flip tests; Holm: p adjusted for all rows together."]
    if people < FEWEST:
        told.append(f"Fewer than {FEWEST} people can't bound a difference at 95 %: run more subjects.")
    for line in told:
        console.print(line, style="dim", markup=False, highlight=False)


def _sides(a: Path, b: Path | None, wanted: list[str]) -> "tuple[Side, Side]":
    from iddmbench.result import result_of
    from iddmbench.results.summary import UNDEFENDED, Summary

    if len(wanted) > 2:
        raise UserError(f"--condition is given {len(wanted)} times: give it once for both, or twice, for A and B")
    sides = []
    for place, path in enumerate((a, b or a)):
        result = result_of(path)
        summary = Summary(result.folder)
        label = UNDEFENDED if b is None and place == 1 and len(wanted) < 2 else ""
        if wanted and not label:
            label = wanted[min(place, len(wanted) - 1)]
        known = {one.label: one for one in summary.conditions}
        if label and label not in known:
            raise UserError(f"run {result.folder.name} has no condition '{label}': {did_you_mean(label, known)}")
        sides.append((summary, known[label] if label else result.condition))
    return sides[0], sides[1]


def _table(found: "list[Difference]", people: int) -> "Table":
    """Each attacker's figures under its name. people: how many most rows rest on; the others say how many they have."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from iddmbench.results.metric_info import metric

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("", overflow="fold", min_width=18)
    for name in ("A", "B", "A - B", "95 %", "p", "Holm"):
        shown.add_column(name, justify="right", no_wrap=True)
    last = None
    for one in found:
        if one.attacker != last:
            if last is not None:
                shown.add_section()
            by = f" ({', '.join(dict.fromkeys(one.by))})" if one.attacker not in one.by else ""
            shown.add_row(escape(f"{one.attacker or 'utility'}{by}"), style="bold")
        last = one.attacker
        share = metric(one.metric).share
        title = metric(one.metric).title.removesuffix(" (EfficientNet-Lite2)") + (" %" if share else "")
        if one.found.subjects != people:
            title += f" ({one.found.subjects} people)"
        ends = [_number(x, share, "+") for x in (one.found.low, one.found.high)]
        row = [
            f"  {title}",
            _number(one.first, share),
            _number(one.second, share),
            _number(one.found.value, share, "+"),
        ]
        shown.add_row(*map(escape, [*row, f"[{', '.join(ends)}]"]), _p(one.found.p_value), _p(one.adjusted))
    return shown


def _number(value: float, share: bool, sign: str = "") -> str:
    """Shares in per cent; differences of them in points."""
    if math.isinf(value):
        return "-∞" if value < 0 else "+∞"
    return f"{100 * value:{sign}.1f}" if share else f"{value:{sign}.3f}"


def _p(value: float | None) -> str:
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.2g}"
