"""The table of docs/defenses.md, from finished runs: `python benchmarks/defense_table.py RUN [RUN ...] > table.md`.

One row per condition: protection in the worst case over the attackers that no defense of the run knows and against each
attacker (* white-box), faces found and utility index with 95 % intervals, largest change and PSNR of the photos, cells.
A control that is in several runs is shown once.
"""

import math
import sys
from pathlib import Path

import pandas as pd

from iddmbench.results.run_folder import RunFolder

ATTACKERS = ("dlib", "sface")


def main(paths: list[Path]) -> None:
    heads = ["defense", "strength", "R1-U worst", "PSR worst", *(f"R1-U {a}" for a in ATTACKERS)]
    heads += ["faces", "utility index", "levels", "PSNR dB", "cells"]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    lines: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        run = RunFolder.open(path)
        for (defense, value), rows in run.summary.groupby(["defense", "strength"], dropna=False, sort=False):
            strength = float(str(value))
            cells = run.cells[run.cells["defense"] == defense]
            cells = cells[cells["strength"].isna() if math.isnan(strength) else cells["strength"] == strength]
            shown = "" if math.isnan(strength) else f"{strength:g}"
            lines.setdefault((str(defense), shown), line(rows, cells))
    for (name, shown), parts in sorted(lines.items()):
        print("| " + " | ".join([f"`{name}`", shown, *parts]) + " |")


def line(rows: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    parts = [rate(rows, "r1u", "worst-case"), rate(rows, "psr@1e-2", "worst-case")]
    parts += [rate(rows, "r1u", attacker) for attacker in ATTACKERS]
    parts += [rate(rows, "face_detection_rate"), number(rows, "utility_index")]
    levels, psnr = cells["photo_linf"].max(), cells["photo_psnr"].mean()
    parts += ["" if pd.isna(levels) else f"{levels:.0f}", "" if pd.isna(psnr) else f"{psnr:.1f}"]
    return [*parts, f"{(cells['status'] == 'ok').sum()}/{len(cells)}"]


def pick(rows: pd.DataFrame, metric: str, attacker: str = "") -> pd.Series | None:
    found = rows[(rows["metric"] == metric) & (rows["attacker"] == attacker) & rows["policy"].isin(["", "headline"])]
    return None if found.empty or pd.isna(found.iloc[0]["value"]) else found.iloc[0]


def rate(rows: pd.DataFrame, metric: str, attacker: str = "") -> str:
    found = pick(rows, metric, attacker)
    if found is None:
        return "-"
    star = "*" if found["threat"] == "white-box" else ""
    return f"{100 * found['value']:.0f} % [{100 * found['low']:.0f}-{100 * found['high']:.0f}]{star}"


def number(rows: pd.DataFrame, metric: str) -> str:
    found = pick(rows, metric)
    return "-" if found is None else f"{found['value']:.2f} [{found['low']:.2f}-{found['high']:.2f}]"


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
