"""What `iddmbench run` prints when it is done."""

import math

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from iddmbench.results import selection
from iddmbench.results.headline import headlines
from iddmbench.results.metric_info import CLOSENESS, KEPT_UNMEASURED, metric
from iddmbench.results.run_folder import FIGURES, REPORT, WORST_CASE, WORST_CASE_ADAPTIVE, RunFolder
from iddmbench.results.summary import Condition, Summary, figure_text, threshold_text, written

SHOWN = ("r1u", "psr@1e-2")
JUDGES = {WORST_CASE: "strongest", WORST_CASE_ADAPTIVE: "adaptive"}
THRESHOLD = "psr@1e-2"
FEWEST = 3
"""People in a group from which on the terminal shows it."""
WIDE = 110
"""Columns of a terminal from which on the error of the thresholds has a column of its own; the report always has it."""


def print_summary(run: RunFolder, console: Console, paths: bool = True) -> None:
    """Per condition and attacker R1-U and PSR at FAR 1e-2 with intervals; per condition faces found, utility index and
    failed cells; then (`paths`) where report and curve lie. Of many attackers or conditions, the strongest alone."""
    summary = Summary(run)
    some_failed = len(run.failed) > 0
    by_threshold = console.width >= WIDE and _has_thresholds(summary)
    table = Table(
        title="Protection and utility, 95 % intervals in brackets",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("Condition", no_wrap=True)
    longest = max(len(f"{max(JUDGES.values(), key=len)}: {name}") for name in [*summary.attackers, ""])
    table.add_column("Attacker", overflow="fold", min_width=min(25 if console.width >= 90 else 14, longest))
    for name in SHOWN:
        table.add_column(metric(name).title, justify="right")
    if by_threshold:
        table.add_column("by threshold", justify="right")
    table.add_column("Faces", justify="right")
    table.add_column("Utility index" if console.width >= WIDE else "Utility", justify="right")
    if some_failed:
        table.add_column("Failed", justify="right", style="red")
    for condition in summary.conditions:
        for row in _rows(summary, condition, some_failed, by_threshold):
            table.add_row(*(escape(_tight(text)) for text in row))
        table.add_section()
    console.print(table)
    if _judges(summary) != summary.attackers and summary.attackers:
        console.print(f"Single attackers ({', '.join(summary.attackers)}): see the report", markup=False, style="dim")
    if any(summary.white_box(c, summary.strongest(c, a) or a) for c in summary.conditions for a in _judges(summary)):
        console.print("* white-box: the defense optimized against this attacker", style="dim")
    if any(summary.knows_judge(c, CLOSENESS) for c in summary.conditions):
        console.print("utility index: without closeness where the defense optimized its judge", style="dim")
    if any(a in summary.attackers and a not in summary.able for a in _judges(summary)):
        console.print("? says nothing: it does not link the undefended model", style="dim")
    if WORST_CASE_ADAPTIVE in _judges(summary):
        console.print("adaptive: the strongest of all, those that prepare for the defense included", style="dim")
    if by_threshold:
        console.print("by threshold: PSR when the people that set the threshold are resampled", style="dim")
    for sentence in [*headlines(summary), *group_lines(summary)]:
        console.print(sentence, markup=False, highlight=False)
    for note in run.config.get("notes", []):
        if str(note).startswith(KEPT_UNMEASURED):
            console.print(str(note), markup=False, highlight=False, style="dim")
    if not paths:
        return
    console.print()
    # Paths are for copying: no wrapping, no colours.
    for title, path in (("Report", run.path / REPORT), ("Curve ", run.path / FIGURES / "tradeoff.png")):
        console.print(f"{title}  {path}", markup=False, highlight=False, soft_wrap=True)


def group_lines(summary: Summary) -> list[str]:
    """Images not linked by the strongest attacker by sex, age and skin tone, of each defense at its highest strength; of traits
    that split the people into two groups or more of at least FEWEST. The report has all groups."""
    lines = []
    frame = summary.run.demographics
    frame = frame[(frame["metric"] == SHOWN[0]) & (frame["attacker"] == WORST_CASE)]
    for condition in (summary.curve(defense)[-1] for defense in summary.defenses):
        for trait, part in condition.rows(frame).groupby("trait", sort=False):
            groups = part[part["subjects"] >= FEWEST].to_dict("records")
            if len(groups) < 2:
                continue
            texts = [
                f"{row['group']} {figure_text(SHOWN[0], row['value'], row['low'], row['high'])} of {row['subjects']} people"
                for row in groups
            ]
            lines.append(f"{condition.title}, {metric(SHOWN[0]).title} by {trait}: {'; '.join(texts)}.")
    return lines


def _has_thresholds(summary: Summary) -> bool:
    found = (summary.get(c, THRESHOLD, a) for c in summary.conditions for a in _judges(summary))
    return any(value is not None and math.isfinite(value.threshold_low) for value in found)


def _tight(text: str) -> str:
    """An interval without a space in it, so that no line breaks inside: "[13–38]"."""
    return text.replace(", ", "–") if text.endswith("]") else text


def _rows(summary: Summary, condition: Condition, some_failed: bool, by_threshold: bool) -> list[list[str]]:
    """One row per attacker or worst case; what belongs to the condition stands in the first."""
    faces = written("face_detection_rate", summary.get(condition, "face_detection_rate"), interval=False)
    shared = [faces, written("utility_index", summary.get(condition, "utility_index"))]
    if some_failed:
        shared.append(str(summary.failed(condition) or ""))
    rows: list[list[str]] = []
    for attacker in _judges(summary):
        figures = [written(name, summary.get(condition, name, attacker)) for name in SHOWN]
        if by_threshold:
            figures.append(threshold_text(THRESHOLD, summary.get(condition, THRESHOLD, attacker)).removesuffix(" %"))
        by = summary.strongest(condition, attacker)
        mark = "*" if summary.white_box(condition, by or attacker) else ""
        mark += "?" if attacker in summary.attackers and attacker not in summary.able else ""
        first = not rows
        rows.append(
            [
                condition.title if first else "",
                (f"{JUDGES[attacker]}: {by}" if by else JUDGES.get(attacker, attacker)) + mark,
                *figures,
                *(shared if first else [""] * len(shared)),
            ]
        )
    return rows


def _judges(summary: Summary) -> list[str]:
    if len(summary.attackers) > selection.PANELS or len(summary.conditions) > selection.CONDITIONS:
        return selection.judges(summary)
    return summary.attackers or [""]
