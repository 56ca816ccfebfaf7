"""What `iddmbench run` prints when it is done: the same facts at every width."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from iddmbench.errors import printable
from iddmbench.results import selection
from iddmbench.results.by_prompt import prompt_lines
from iddmbench.results.comparable import old_index
from iddmbench.results.headline import headlines
from iddmbench.results.left_out import left_out
from iddmbench.results.metric_info import KEPT_UNMEASURED, REALISM, UNMEASURED, metric
from iddmbench.results.plain_words import plain_words
from iddmbench.results.published import published_lines
from iddmbench.results.run_folder import FIGURES, LEFT_OUT, REPORT, WORST_CASE, WORST_CASE_ADAPTIVE, RunFolder
from iddmbench.results.setting import followed, setting
from iddmbench.results.summary import Condition, Summary, figure_text, threshold_text, written

SHOWN = ("r1u", "psr@1e-2")
JUDGES = {WORST_CASE: "strongest", WORST_CASE_ADAPTIVE: "adaptive"}
THRESHOLD = "psr@1e-2"
FEWEST = 3
"""People in a group from which on the terminal shows it."""
MEANINGS = (
    "R1-U: share of images whose first candidate in the gallery is not the person; higher protects better",
    "PSR @ FAR 1e-2: share of images not accepted as the person, where 1 % of strangers would be; higher protects better",
)


@dataclass(frozen=True)
class AttackerText:
    """One attacker or worst case on one condition: its figures in words, in the order of `SHOWN`."""

    judge: str
    figures: tuple[str, ...]
    by_threshold: str


@dataclass(frozen=True)
class ConditionBlock:
    """One condition: what belongs to it as a whole, and a line for each attacker."""

    title: str
    faces: str
    utility: str
    failed: str
    lines: tuple[AttackerText, ...]


def print_summary(run: RunFolder, console: Console, paths: bool = True) -> None:
    """One sentence in plain words; per condition and attacker R1-U and PSR at FAR 1e-2 with intervals, per condition faces
    found, utility index and failed cells; then what they mean, what was left out and (`paths`) where report and curve lie.

    Of many attackers or conditions, the strongest alone. Where the terminal is too narrow for a table, lines say the same.
    """
    summary = Summary(run)
    blocks = [_block(summary, condition) for condition in summary.conditions]
    thresholds = _has_thresholds(summary)
    for sentence in (followed(run.config), setting(run.config), plain_words(summary)):
        if sentence:
            _say(console, sentence, "bold")
    console.print()
    title = Text("Protection and utility, 95 % intervals in brackets", style="bold")
    for tall in (False, True):
        table = _table(blocks, thresholds, len(run.failed) > 0, tall)
        if Measurement.get(console, console.options.update(width=1000), table).maximum <= console.width:
            console.print(title)
            console.print(table)
            break
    else:
        console.print(title)
        console.print()
        _as_lines(console, blocks, thresholds)
    for text in _legend(summary, thresholds):
        _say(console, text, "dim")
    for sentence in [*headlines(summary), *group_lines(summary), *published_lines(run), *prompt_lines(run)]:
        _say(console, sentence)
    for note in run.config.get("notes", []):
        if str(note).startswith((KEPT_UNMEASURED, UNMEASURED)):
            _say(console, str(note), "dim")
    if text := more_people(run):
        _say(console, text)
    if line := left_out([run.config], str(run.path / LEFT_OUT) if paths else ""):
        console.print(Text(printable(line), style="yellow"), soft_wrap=True)
    if not paths:
        return
    console.print()
    # Paths are for copying: no wrapping, no colours.
    for name, path in (("Report", run.path / REPORT), ("Curve ", run.path / FIGURES / "tradeoff.png")):
        console.print(Text(f"{name}  {printable(str(path))}"), soft_wrap=True)


def more_people(run: RunFolder) -> str:
    """A hint where the dataset has more people than the run looked at; empty where it has not, or does not say."""
    there, taken = run.config.get("offered", run.config.get("people")), len(run.config.get("subjects", []))
    if not isinstance(there, int) or there <= taken:
        return ""
    return f"{taken} of {there} people were tested: use --subjects all for all of them."


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(printable(text), style=style))


def _legend(summary: Summary, thresholds: bool) -> list[str]:
    """What signs and abbreviations of the table mean."""
    judges = _judges(summary)
    found = list(MEANINGS)
    if version := old_index(summary.run):
        found.append(version)
    if summary.attackers and not set(summary.attackers) & set(judges):
        found.append(f"Single attackers ({', '.join(summary.attackers)}): see the report")
    if any(summary.white_box(c, summary.strongest(c, a) or a) for c in summary.conditions for a in judges):
        found.append("* white-box: the defense optimized against this attacker")
    if any(summary.knows_judge(c, REALISM) for c in summary.conditions):
        found.append("utility index: excludes realism if the defense optimized its judge")
    if any(a in summary.attackers and a not in summary.able for a in judges):
        found.append("? uninformative: it does not link the undefended model")
    if WORST_CASE in judges:
        found.append("strongest: the single attacker that links most in this condition")
    if WORST_CASE_ADAPTIVE in judges:
        found.append("adaptive: the strongest of all, including those that prepare for the defense")
    if thresholds:
        found.append("by threshold: PSR when the people who set the threshold are resampled")
    return found


def _table(blocks: Sequence[ConditionBlock], thresholds: bool, some_failed: bool, tall: bool) -> Table:
    """tall: intervals stand below their figures, and long headings take two lines."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    titles = [metric(name).title for name in SHOWN]
    if tall:
        titles = [title.replace(" @ ", "\n@ ") for title in titles]
    headings = [
        "Condition",
        "Attacker",
        *titles,
        *(["by\nthreshold" if tall else "by threshold"] if thresholds else []),
    ]
    headings += ["Faces", "Utility" if tall else "Utility index", *(["Failed"] if some_failed else [])]
    for i, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if i < 2 else "right", no_wrap=True)
    for block in blocks:
        for i, line in enumerate(block.lines):
            own = [block.faces, block.utility, *([block.failed] if some_failed else [])] if i == 0 else []
            by = [line.by_threshold] if thresholds else []
            cells = [block.title if i == 0 else "", line.judge, *line.figures, *by, *own]
            table.add_row(
                *(Text(cell.replace(" [", "\n[") if tall and j > 1 else cell) for j, cell in enumerate(cells))
            )
        table.add_section()
    return table


def _as_lines(console: Console, blocks: Sequence[ConditionBlock], thresholds: bool) -> None:
    """The table's facts, one under the other."""
    for block in blocks:
        facts = f"{block.title}: faces {block.faces}, utility index {block.utility}"
        _say(console, facts + (f", {block.failed} failed" if block.failed else ""), "bold")
        for line in block.lines:
            parts = [f"{metric(name).title} {value}" for name, value in zip(SHOWN, line.figures, strict=True)]
            if thresholds:
                parts.append(f"by threshold {line.by_threshold}")
            lead = f"{line.judge}: " if line.judge else ""
            console.print(Padding(Text(lead + ", ".join(parts)), (0, 0, 0, 2)))
    console.print()


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


def _block(summary: Summary, condition: Condition) -> ConditionBlock:
    lines = []
    for attacker in _judges(summary):
        figures = tuple(_tight(written(name, summary.get(condition, name, attacker))) for name in SHOWN)
        threshold = threshold_text(THRESHOLD, summary.get(condition, THRESHOLD, attacker)).removesuffix(" %")
        by = summary.strongest(condition, attacker)
        mark = "*" if summary.white_box(condition, by or attacker) else ""
        mark += "?" if attacker in summary.attackers and attacker not in summary.able else ""
        judge = (f"{JUDGES[attacker]}: {by}" if by else JUDGES.get(attacker, attacker)) + mark
        lines.append(AttackerText(printable(judge), figures, threshold))
    faces = written("face_detection_rate", summary.get(condition, "face_detection_rate"), interval=False)
    utility = _tight(written("utility_index", summary.get(condition, "utility_index")))
    failed = str(summary.failed(condition) or "")
    return ConditionBlock(printable(condition.title), faces, utility, failed, tuple(lines))


def _judges(summary: Summary) -> list[str]:
    """Whose figures are shown: every attacker and, where there are several, the worst cases; of many the worst cases alone."""
    worst = selection.judges(summary)
    if len(summary.attackers) > selection.PANELS or len(summary.conditions) > selection.CONDITIONS:
        return worst
    return [*summary.attackers, *(worst if len(summary.attackers) > 1 else [])] or [""]
