"""`iddmbench variance`: people, seeds or images? And how many of them a claim needs."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iddmbench.errors import UserError, did_you_mean, printable

if TYPE_CHECKING:
    from rich.table import Table

    from iddmbench.results.summary import Condition, Summary

FEWEST = 2
"""Seeds from which on their part can be told from people's."""


def variance(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders of one protocol; seeds and people are pooled.")
    ],
    condition: Annotated[
        list[str] | None,
        typer.Option(
            help="Conditions that the power table compares: give two. Default: the defense at its highest strength, none."
        ),
    ] = None,
    attacker: Annotated[str, typer.Option(help="Attacker of the power table; by default the strongest of each.")] = "",
    csv: Annotated[Path | None, typer.Option(help="Also write the split of every figure to this file.")] = None,
) -> None:
    """Split the variance of R1-U and utility into people, seeds and images; show the interval that more of them would give."""
    from rich.console import Console

    from iddmbench.results.comparable import check_comparable
    from iddmbench.results.run_folder import WORST_CASE, RunFolder, runs_of
    from iddmbench.results.summary import Summary
    from iddmbench.results.variance import (
        attacker_of,
        paired_split,
        power_table,
        roughness,
        strongest_rows,
        variance_table,
    )

    opened = [RunFolder.open(run) for path in runs for run in runs_of(path)]
    check_comparable(opened)
    summaries = [Summary(run) for run in opened]
    table = variance_table(summaries)
    if not len(table):
        raise UserError(f"no finished image in {', '.join(run.name for run in opened)}")
    if csv is not None:
        table.to_csv(csv, index=False)
    console = Console(emoji=False)
    console.print(_split_table(strongest_rows(summaries[0], table).to_dict("records")))
    subjects, seeded = int(table["subjects"].max()), (table["models"] > table["subjects"]).any()
    told = ["Standard deviations, and in brackets each one's share of the variance of this run's mean."]
    if not seeded:
        told.append(f"One seed: what it does is part of people. Run {FEWEST} or more (--seed 0 --seed 1).")
    pair = _pair(summaries, condition or [])
    if pair is not None and subjects > 1:
        judge = attacker or WORST_CASE
        sides = [next(s for s in summaries if one in s.conditions) for one in pair]
        by = tuple(attacker_of(summary, one, judge) for summary, one in zip(sides, pair, strict=True))
        known = dict.fromkeys(name for summary in summaries for name in summary.attackers)
        if attacker and attacker not in known:
            raise UserError(f"--attacker {attacker}: did not run: {did_you_mean(attacker, known)}")
        split = paired_split((summaries, pair[0]), (summaries, pair[1]), attackers=(by[0], by[1]))
        names = ", ".join(dict.fromkeys(by))
        console.print(
            printable(
                f"Half-width of the 95 % interval of {pair[0].title} - {pair[1].title}, R1-U in points ({names})"
            ),
            style="bold",
            markup=False,
        )
        console.print(_power(power_table(split)))
        low, high = roughness(split.counts[0])
        told.append(
            f"Foretold from {split.counts[0]} people: the widths are known to a factor of {low:.1f} to {high:.1f} at best."
        )
    for line in told:
        console.print(line, style="dim", markup=False, highlight=False)


def _pair(summaries: "list[Summary]", wanted: list[str]) -> "tuple[Condition, Condition] | None":
    from iddmbench.results.summary import UNDEFENDED

    known = {one.label: one for summary in summaries for one in summary.conditions}
    if wanted and len(wanted) != 2:
        raise UserError(f"--condition is given {len(wanted)} times: give it twice, for the two to compare")
    for label in wanted:
        if label not in known:
            raise UserError(f"--condition {label}: the runs have no such condition: {did_you_mean(label, known)}")
    if wanted:
        return known[wanted[0]], known[wanted[1]]
    defended = [one for one in known.values() if one.strength is not None]
    return (defended[-1], known[UNDEFENDED]) if defended and UNDEFENDED in known else None


def _split_table(rows: list[dict]) -> "Table":
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from iddmbench.results.metric_info import metric
    from iddmbench.results.summary import Condition, figure_text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(("Condition", "Figure", "Mean", "People", "Seeds", "Images")):
        shown.add_column(name, justify="left" if i < 2 else "right", no_wrap=i > 1)
    for row in rows:
        strength = float(row["strength"])
        title = Condition(row["defense"], None if math.isnan(strength) else strength).title
        name = row["metric"]
        label = f"{metric(name).title.removesuffix(' (EfficientNet-Lite2)')}" + (
            f" ({row['attacker']})" if row["attacker"] else ""
        )
        parts = []
        for part in ("people", "seeds", "images"):
            share = row[f"share_{part}"]
            text = "–" if math.isnan(row[part]) else figure_text(name, row[part])
            parts.append(text if math.isnan(share) else f"{text} ({100 * share:.0f} %)")
        shown.add_row(*map(escape, (title, label, figure_text(name, row["mean"]), *parts)))
    return shown


def _power(table: "object") -> "Table":
    import pandas as pd
    from rich import box
    from rich.table import Table

    assert isinstance(table, pd.DataFrame)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("People", justify="right")
    for seeds in table.columns:
        shown.add_column("1 seed" if seeds == 1 else f"{seeds} seeds", justify="right")
    for people in table.index:
        shown.add_row(str(people), *(f"{100 * value:.0f}" for value in table.loc[people]))
    return shown
