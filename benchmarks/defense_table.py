"""The table of docs/defenses.md, from finished runs: `python benchmarks/defense_table.py RUN > table.md`.

One row per condition: protection against each attacker and in the worst case over those that no defense of the run knows,
faces found, utility index, change of the photos, and seconds of one personalization, all but the last two with 95 % intervals.
"""

import sys
from pathlib import Path

import pandas as pd

from iddmbench.run.folder import RunFolder

COLUMNS = ("defense", "strength", "R1-U worst case", "PSR worst case")


def main(path: Path) -> None:
    run = RunFolder.open(path)
    summary, cells = run.summary, run.cells
    attackers = [a for a in summary["attacker"].unique() if a not in ("", "worst-case")]
    heads = [*COLUMNS, *(f"R1-U {a}" for a in attackers), "faces", "utility index", "photo levels", "PSNR dB", "s", "n"]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for (defense, strength), rows in summary.groupby(["defense", "strength"], dropna=False, sort=False):
        own = cells[
            (cells["defense"] == defense)
            & (cells["strength"].isna() if pd.isna(strength) else cells["strength"] == strength)
        ]
        row = [f"`{defense}`", "" if pd.isna(strength) else f"{strength:g}"]
        row += [rate(rows, "r1u", "worst-case"), rate(rows, "psr@1e-2", "worst-case")]
        row += [rate(rows, "r1u", a) for a in attackers]
        row += [rate(rows, "face_detection_rate"), number(rows, "utility_index")]
        levels, psnr = own["photo_linf"].max(), own["photo_psnr"].mean()
        row += ["" if pd.isna(levels) else f"{levels:.0f}", "" if pd.isna(psnr) else f"{psnr:.1f}"]
        done = own[own["status"] == "ok"]
        row += [f"{done['seconds_personalize'].median():.0f}", f"{len(done)}/{len(own)}"]
        print("| " + " | ".join(row) + " |")


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
    main(Path(sys.argv[1]))
