"""Rank-1 hits of plain and adaptive attackers in a run, as the tables in docs/attackers.md and docs/results.md.

    python benchmarks/adaptive_table.py RUN [--write docs/attackers.md]

Each cell: share of images linked to the right person at rank 1 (headline policy), with its 95 % interval.
"""

import argparse
from pathlib import Path

from iddmbench.results.run_folder import WORST_CASES, RunFolder
from iddmbench.results.summary import Condition, Summary, number

BEGIN, END = "<!-- adaptive: python benchmarks/adaptive_table.py RUN -->", "<!-- end of adaptive -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--leave-out", nargs="*", default=[], help="attackers")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its two marks")
    options = parser.parse_args()
    summary = Summary(RunFolder.open(options.run))
    attackers = [name for name in [*summary.attackers, *WORST_CASES] if name not in options.leave_out]
    table = by_attacker(summary, attackers)
    print(table)
    if options.write:
        head, _, rest = options.write.read_text(encoding="utf-8").partition(BEGIN)
        _, _, tail = rest.partition(END)
        options.write.write_text(f"{head}{BEGIN}\n\n{table}\n\n{END}{tail}", encoding="utf-8")


def by_attacker(summary: Summary, attackers: list[str]) -> str:
    columns = summary.conditions
    rows = {f"`{a}`": [hits(summary, c, a) for c in columns] for a in attackers}
    return markdown("attacker", [c.title for c in columns], rows)


def markdown(corner: str, columns: list[str], rows: dict[str, list[str]]) -> str:
    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    return "\n".join(lines + [f"| {title} | {' | '.join(cells)} |" for title, cells in rows.items()])


def hits(summary: Summary, condition: Condition, attacker: str) -> str:
    value = summary.get(condition, "rank1_hit", attacker)
    if value is None:  # of the worst case only the protection is in the table
        kept = summary.get(condition, "r1u", attacker)
        return f"{number('r1u', 1 - kept.value)} %" if kept else "–"
    ends = f" [{number('r1u', value.low)}-{number('r1u', value.high)}]" if value.bounded else ""
    mark = "*" if summary.white_box(condition, attacker) else ""
    return f"{number('r1u', value.value)} %{mark}{ends}"


if __name__ == "__main__":
    main()
