"""Rank-1 hits of plain and adaptive attackers in a run, as the table in docs/attackers.md.

    python benchmarks/adaptive_table.py RUN [--write docs/attackers.md]

Each cell: share of images linked to the right person at rank 1 (headline policy), with its 95 % interval.
"""

import argparse
from pathlib import Path

from iddmbench.run.folder import WORST_CASE, WORST_CASE_ADAPTIVE, RunFolder
from iddmbench.run.tables import Summary, number

BEGIN, END = "<!-- adaptive: python benchmarks/adaptive_table.py RUN -->", "<!-- end of adaptive -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--leave-out", nargs="*", default=[], help="attackers")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its two marks")
    options = parser.parse_args()
    table = rank1_table(Summary(RunFolder.open(options.run)), options.leave_out)
    print(table)
    if options.write:
        head, _, rest = options.write.read_text(encoding="utf-8").partition(BEGIN)
        _, _, tail = rest.partition(END)
        options.write.write_text(f"{head}{BEGIN}\n\n{table}\n\n{END}{tail}", encoding="utf-8")


def rank1_table(summary: Summary, leave_out: list[str]) -> str:
    conditions = summary.conditions
    lines = [f"| attacker | {' | '.join(c.title for c in conditions)} |", "|---" * (len(conditions) + 1) + "|"]
    for attacker in [*summary.attackers, WORST_CASE, WORST_CASE_ADAPTIVE]:
        if attacker in leave_out:
            continue
        cells = []
        for condition in conditions:
            value = summary.get(condition, "rank1_hit", attacker)
            if value is None:  # of the worst case only the protection is in the table
                kept = summary.get(condition, "r1u", attacker)
                cells.append(f"{number('r1u', 1 - kept.value)} %" if kept else "–")
                continue
            ends = f" [{number('r1u', value.low)}-{number('r1u', value.high)}]" if value.bounded else ""
            mark = "*" if summary.white_box(condition, attacker) else ""
            cells.append(f"{number('r1u', value.value)} %{mark}{ends}")
        lines.append(f"| `{attacker}` | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
