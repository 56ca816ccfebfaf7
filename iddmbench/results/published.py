"""Impersonation by published thresholds, in words: a side column, never a headline."""

from typing import Any

from iddmbench.results.run_folder import RunFolder, label

MARK = "as published, not calibrated"
HEADER = ["condition", "attacker", "threat", "target", "published threshold", f"PSR, {MARK}", "images", "subjects"]


def published_lines(run: RunFolder) -> list[str]:
    """One sentence per condition: what each attacker takes for the target person; none where there are no such thresholds."""
    lines = []
    for name, rows in _by_condition(run).items():
        first = rows[0]
        told = ", ".join(f"{row['attacker']} {rate_text(row)}" for row in rows)
        lines.append(f"PSR of {name} ({MARK}): taken for {first['target']} at FAR {first['far']:g} by {told}.")
    return lines


def published_rows(run: RunFolder) -> list[list[str]]:
    """Rows under `HEADER`, one for each condition and attacker."""
    return [
        [
            name,
            str(row["attacker"]),
            str(row["threat"]),
            str(row["target"]),
            f"{row['threshold']:.6f}",
            rate_text(row),
            str(row["images"]),
            str(row["subjects"]),
        ]
        for name, rows in _by_condition(run).items()
        for row in rows
    ]


def rate_text(row: Any) -> str:
    """ "37.5 % [10.1, 71.2]"."""
    return f"{100 * row['value']:.1f} % [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def _by_condition(run: RunFolder) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in run.published.to_dict("records"):
        found.setdefault(label(row["defense"], row["strength"]), []).append(row)
    return found
