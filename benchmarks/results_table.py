"""The table of docs/results.md, from finished runs: `python benchmarks/results_table.py RUN [RUN ...] > table.md`.

A row for each condition and attacker, the strongest ones first: R1-U, PSR at FAR 1e-2, faces found and
utility index, with 95 % intervals.
"""

import math
import sys
from pathlib import Path

from defense_table import number, pick, rate

from iddmbench.results.run_folder import WORST_CASE, WORST_CASE_ADAPTIVE, RunFolder

STRONGEST = {WORST_CASE: "strongest", WORST_CASE_ADAPTIVE: "strongest, prepared ones too"}


def main(paths: list[Path]) -> None:
    print("| condition | attacker | R1-U | PSR at FAR 1e-2 | faces | utility index |\n" + "|---" * 6 + "|")
    for path in paths:
        rows_of(RunFolder.open(path))


def rows_of(run: RunFolder) -> None:
    for (defense, value), rows in run.summary.groupby(["defense", "strength"], dropna=False, sort=False):
        strength = float(str(value))
        name = f"`{defense}`" if math.isnan(strength) else f"`{defense}` {strength:g}"
        for attacker in [*STRONGEST, *run.config["attackers"]]:
            row = pick(rows, "r1u", attacker)
            if row is None:
                continue
            title = f"{STRONGEST[attacker]}: {row['by']}" if attacker in STRONGEST else attacker
            figures = [rate(rows, "r1u", attacker), rate(rows, "psr@1e-2", attacker), rate(rows, "face_detection_rate")]
            print("| " + " | ".join([name, title, *figures, number(rows, "utility_index")]) + " |")


if __name__ == "__main__":
    main([Path(path) for path in sys.argv[1:]])
