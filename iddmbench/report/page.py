"""The HTML report of a run: one file, nothing loaded from anywhere, everything from the run escaped."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from iddmbench.results import selection
from iddmbench.results.by_prompt import prompt_table
from iddmbench.results.comparable import old_index
from iddmbench.results.findings import from_rows, in_order
from iddmbench.results.headline import FEW, headlines
from iddmbench.results.metric_info import KEPT, metric
from iddmbench.results.paired import comparisons
from iddmbench.results.published import HEADER, published_rows
from iddmbench.results.reproduce import command, shell
from iddmbench.results.run_folder import (
    UNION,
    UNION_ADAPTIVE,
    WORST_CASE,
    WORST_CASE_ADAPTIVE,
    WORST_CASE_TRANSFER,
    WORST_CASES,
    RunFolder,
)
from iddmbench.results.setting import followed
from iddmbench.results.summary import Condition, Summary, figure_text, per_cent, threshold_text, written
from iddmbench.results.variance import strongest_rows, variance_table

SHOWN = ("r1u", "psr@1e-2", "psr@1e-3")
"""Privacy figures of the main table; all others are in the full one."""
TITLES = {
    WORST_CASE: "strongest",
    WORST_CASE_ADAPTIVE: "strongest, including adaptive",
    WORST_CASE_TRANSFER: "strongest not white-box",
    UNION: "any of them (no single attacker)",
    UNION_ADAPTIVE: "any, including adaptive (no single attacker)",
}
GROUP_SHOWN = ("r1u", "psr@1e-2", "face_detection_rate", *KEPT)
POLICIES = ("acquired", "miss", "chance", "headline")
MANY, COLUMNS, MOST = 60, 24, 4000
MOST_DOUBTS = 40
"""Rows from which on a table is closed at first, columns from which on subjects are the columns, and rows from which on the
table of every figure stays in its file."""


@dataclass
class Table:
    """What the template draws: a header of one or two rows, then rows whose first cell is a header too.

    groups: (text, columns it spans) above `columns`, empty for a header of one row.
    """

    columns: list[str]
    rows: list[list[str]]
    groups: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Drawings:
    """The pictures of a report, as file contents: SVG, and the contact sheet as PNG; `narrow` is the trade-off for phones."""

    tradeoff: bytes
    histograms: bytes
    sheet: bytes
    narrow: bytes


def report(run: RunFolder, drawings: Drawings) -> str:
    """The report as HTML text."""
    environment = Environment(
        loader=PackageLoader("iddmbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    summary = Summary(run)
    return environment.get_template("report.html").render(
        title=f"{_defenses(summary)} on {run.config.get('dataset', 'unknown data')}",
        run=run,
        facts=facts(run),
        headlines=headlines(summary),
        doubts=in_order(from_rows(run.premise.to_dict("records"))),
        failed=failed_table(run),
        privacy=privacy_table(summary, summary.attackers),
        worst=privacy_table(summary, []),
        many=MANY,
        most_doubts=MOST_DOUBTS,
        utility=utility_table(summary),
        old_index=old_index(run),
        compared=compared_table(summary),
        policies=policy_table(summary),
        subjects=subject_table(summary),
        demographics=demographic_table(summary),
        variance=variance_rows(summary),
        calibration=calibration_table(run),
        prompts=Table(*prompt_table(run)),
        published=Table(HEADER, published_rows(run)),
        everything=full_table(summary) if len(run.summary) <= MOST else None,
        glossary=[metric(name) for kind in ("privacy", "utility") for name in summary.metrics(kind)],
        tradeoff=data_uri(drawings.tradeoff, "svg+xml"),
        narrow=data_uri(drawings.narrow, "svg+xml"),
        histograms=data_uri(drawings.histograms, "svg+xml"),
        sheet=data_uri(drawings.sheet, "png"),
        command=shell(command(run.config)),
        notes=[str(note) for note in run.config.get("notes", [])],
        skipped=run.config.get("skipped", []),
        environment=environment_rows(run.environment),
    )


def _defenses(summary: Summary) -> str:
    several = len(summary.defenses) > FEW
    return f"{len(summary.defenses)} defenses" if several else ", ".join(summary.defenses) or "anchors only"


def facts(run: RunFolder) -> list[tuple[str, str]]:
    config, protocol = run.config, run.config.get("protocol", {})
    seconds = float(run.cells["seconds"].sum())
    defenses = Summary(run).defenses
    return [
        *([("Defenses", ", ".join(defenses))] if len(defenses) > FEW else []),
        ("Dataset", str(config.get("dataset", "–"))),
        ("Base model", f"{config.get('base', '–')}, personalized by {config.get('personalizer', '–')}"),
        ("Subjects", f"{run.cells['subject'].nunique()}: {', '.join(map(str, dict.fromkeys(run.cells['subject'])))}"),
        ("Images", f"{len(run.images)} generated, {config.get('images_per_prompt', '–')} per prompt"),
        ("Seeds", ", ".join(str(s) for s in sorted(run.cells["seed"].unique()))),
        ("Attackers", ", ".join(map(str, config.get("attackers", [])))),
        ("Cells", f"{len(run.cells)}, {duration(seconds)} of computing"),
        ("Protocol", f"version {protocol.get('version', '–')}, {str(protocol.get('hash', '–'))[:12]}"),
        *([("Published protocol", text)] if (text := followed(config)) else []),
    ]


def privacy_table(summary: Summary, single: Sequence[str]) -> Table:
    """Condition x attacker: the main privacy figures under the headline policy, of single attackers, then of the strongest one
    (its interval simultaneous over the attackers) and of all together; without single ones the strongest alone."""
    names = [name for name in SHOWN if name in summary.metrics("privacy")]
    some_failed = len(summary.run.failed) > 0
    rows = []
    for condition in summary.conditions:
        attackers = [*single, *selection.judges(summary), *(selection.beside(summary) if single else [])]
        found = [(a, [summary.get(condition, name, a) for name in names]) for a in attackers]
        found = [(a, values) for a, values in found if any(values)] or [("", [None] * len(names))]
        for i, (attacker, values) in enumerate(found):
            images = next((str(v.images) for v in values if v), "0")
            failed = [str(summary.failed(condition) or "") if i == 0 else ""] if some_failed else []
            cells = []
            for name, value in zip(names, values, strict=True):
                cells += [written(name, value), *([threshold_text(name, value)] if "@" in name else [])]
            who = _attacker(summary, condition, attacker) if attacker else "–"
            rows.append([condition.title, who, *cells, images, *failed])
    heads = ["Condition", "Attacker"]
    for name in names:
        heads += [_arrow(name), *(["by threshold"] if "@" in name else [])]
    return Table([*heads, "Images", *(["Failed cells"] if some_failed else [])], rows)


def compared_table(summary: Summary) -> Table:
    """Paired differences of the share linked at rank 1 by the strongest attacker."""
    rows = []
    for one in comparisons(summary):
        d = one.difference
        span = f"{_signed(d.low)} to {_signed(d.high)}" if math.isfinite(d.low) else "too few to bound"
        p = "–" if d.p_value is None else f"{d.p_value:.2g}"
        adjusted = "–" if one.adjusted is None else f"{one.adjusted:.2g}"
        verdict = ("fewer linked" if d.value < 0 else "more linked") if one.apart else "no significant difference"
        sides = [one.first.title, one.second.title, " / ".join(dict.fromkeys(one.by))]
        rows.append([*sides, _signed(d.value), span, p, adjusted, verdict, str(d.subjects)])
    heads = [
        "Condition",
        "Compared with",
        "Strongest attackers",
        "Difference, points",
        "95 %",
        "p",
        "p, Holm",
        "Verdict",
    ]
    return Table([*heads, "Subjects"], rows)


def _signed(share: float) -> str:
    sign = "\u2212" if share < 0 else "+"
    return f"{sign}{per_cent(min(abs(share), 1.0))}"


def utility_table(summary: Summary) -> Table:
    """Condition x figure, or figure x condition where that is narrower."""
    # The index first, its components after it.
    names = sorted(summary.metrics("utility"), key=lambda name: name != "utility_index")

    def shown(condition: Condition, name: str) -> str:
        text = written(name, summary.get(condition, name))
        return f"{text} (white-box, not in the index)" if summary.knows_judge(condition, name) else text

    if len(summary.conditions) < len(names):
        turned = [[_arrow(n), *(shown(c, n) for c in summary.conditions)] for n in names]
        return Table(["Figure", *(c.title for c in summary.conditions)], turned)
    rows = [[c.title, *(shown(c, n) for n in names)] for c in summary.conditions]
    return Table(["Condition", *(_arrow(n) for n in names)], rows)


def policy_table(summary: Summary) -> Table:
    """What each way of counting images without a face gives."""
    names = [name for name in ("r1u", "psr@1e-2") if name in summary.metrics("privacy")]
    rows = []
    for condition in summary.conditions:
        for attacker in summary.attackers:
            lost = summary.get(condition, "fta", attacker)
            figures = [summary.get(condition, n, attacker, policy) for n in names for policy in POLICIES]
            if lost or any(figures):
                texts = [written(n, v, interval=False) for n, v in zip(_repeat(names), figures, strict=True)]
                rows.append([condition.title, _attacker(summary, condition, attacker), written("fta", lost), *texts])
    groups = [("", 3), *((metric(n).title, len(POLICIES)) for n in names)]
    heads = ["acquired only", "miss = not linked", "miss = guess", "headline"]
    return Table(["Condition", "Attacker", _arrow("fta"), *heads * len(names)], rows, groups)


def subject_table(summary: Summary) -> Table:
    """Linked at rank 1 / images of each subject; images without a face are counted apart.

    Where the columns would be too many, subjects are the columns, and the rows the strongest attacker of each condition.
    """
    probes, conditions, attackers = summary.run.probes, summary.conditions, summary.attackers
    names = [str(subject) for subject in dict.fromkeys(summary.run.cells["subject"])]
    if len(conditions) * len(attackers) > COLUMNS:
        rows = []
        for condition in conditions:
            for judge in selection.judges(summary):
                if attacker := summary.strongest(condition, judge):
                    part = condition.rows(probes)
                    counts = [_linked(part[part["subject"] == s], attacker) for s in names]
                    rows.append([condition.title, _attacker(summary, condition, judge), *counts])
        return Table(["Condition", "Linked by", *names], rows)
    rows = []
    for subject in names:
        own = probes[probes["subject"] == subject]
        parts = [condition.rows(own) for condition in conditions]
        rows.append([subject, *(_linked(part, a) for part in parts for a in attackers)])
    groups = [("", 1), *((c.title, len(attackers)) for c in conditions)]
    return Table(["Subject", *attackers * len(conditions)], rows, groups if attackers else [])


def demographic_table(summary: Summary) -> Table:
    """Condition x group: people, R1-U against the strongest attacker of the group, faces found, kept age and sex."""
    frame = summary.run.demographics
    judge = WORST_CASE_ADAPTIVE if WORST_CASE_ADAPTIVE in selection.judges(summary) else WORST_CASE
    names = [name for name in GROUP_SHOWN if name in set(frame["metric"])]
    rows = []
    for condition in summary.conditions:
        own = condition.rows(frame)
        for (trait, group), part in own.groupby(["trait", "group"], sort=False):
            cells, by = [], ""
            for name in names:
                attacker = judge if metric(name).kind == "privacy" else ""
                found = part[(part["metric"] == name) & (part["attacker"] == attacker)].to_dict("records")
                cells.append(figure_text(name, *(found[0][k] for k in ("value", "low", "high"))) if found else "–")
                by = by or (found[0]["by"] if found else "")
            people = str(part["subjects"].max())
            rows.append([condition.title, str(trait), str(group), people, by or "–", *cells])
    return Table(["Condition", "By", "Group", "People", "Strongest attacker", *map(_arrow, names)], rows)


def variance_rows(summary: Summary) -> Table:
    """Standard deviations by people, seeds and images, of the strongest attackers and of utility; none with one seed."""
    rows = []
    found = variance_table([summary]) if summary.run.cells["seed"].nunique() > 1 else pd.DataFrame()
    for row in strongest_rows(summary, found).to_dict("records") if len(found) else []:
        strength = float(row["strength"])
        condition = Condition(row["defense"], None if math.isnan(strength) else strength)
        name, parts = row["metric"], []
        for part in ("people", "seeds", "images"):
            share = row[f"share_{part}"]
            text = "–" if math.isnan(row[part]) else figure_text(name, row[part])
            parts.append(text if math.isnan(share) else f"{text} ({per_cent(share)} %)")
        figure = metric(name).title + (f", {row['attacker']}" if row["attacker"] else "")
        rows.append([condition.title, figure, figure_text(name, row["mean"]), *parts, str(row["models"])])
    return Table(["Condition", "Figure", "Mean", "People", "Seeds", "Images", "Models"], rows)


def calibration_table(run: RunFolder) -> Table:
    rows = [
        [
            str(row["attacker"]),
            str(row["title"]),
            f"{row['far']:g}",
            f"{row['threshold']:.4f}",
            f"{row['threshold_low']:.4f} to {row['threshold_high']:.4f}",
            f"{row['achieved_far']:.2e}",
            str(row["impostor_pairs"]),
            str(row["licence"]),
            str(row["source"]),
            str(row["fingerprint"])[:16],
        ]
        for row in run.calibration.to_dict("records")
    ]
    heads = [
        "Attacker",
        "System",
        "FAR",
        "Threshold",
        "95 %, by its people",
        "Achieved FAR",
        "Impostor pairs",
        "Licence",
        "Weights",
        "Fingerprint",
    ]
    return Table(heads, rows)


def failed_table(run: RunFolder) -> Table:
    rows = []
    for row in run.failed.to_dict("records"):
        strength = float(row["strength"])
        condition = Condition(str(row["defense"]), None if math.isnan(strength) else strength)
        rows.append([condition.title, str(row["subject"]), str(row["seed"]), str(row["error"])])
    return Table(["Condition", "Subject", "Seed", "Error"], rows)


def full_table(summary: Summary) -> Table:
    """The summary table as it is, for those who look for one figure."""
    rows = []
    for row in summary.run.summary.to_dict("records"):
        strength = float(row["strength"])
        condition = Condition(str(row["defense"]), None if math.isnan(strength) else strength)
        figures = ["–" if not math.isfinite(row[k]) else f"{row[k]:.4g}" for k in ("value", "low", "high")]
        names = [str(row[k]) for k in ("attacker", "by", "threat", "policy")]
        rows.append([condition.title, str(row["metric"]), *names, *figures, str(row["images"]), str(row["missing"])])
    heads = [
        "Condition",
        "Metric",
        "Attacker",
        "By",
        "Threat",
        "Policy",
        "Value",
        "Low",
        "High",
        "Images",
        "Failed cells",
    ]
    return Table(heads, rows)


def environment_rows(environment: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [(k, "–" if v is None else str(v)) for k, v in environment.items() if not isinstance(v, dict)]
    packages = environment.get("packages", {})
    return [*rows, *((k, str(v)) for k, v in packages.items())] if isinstance(packages, dict) else rows


def data_uri(image: bytes, kind: str) -> str:
    """For an <img>: as an image, an SVG can run no script and its ids can't clash with another's."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def duration(seconds: float) -> str:
    """Seconds as "50 s", "12 min" or "3.4 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _attacker(summary: Summary, condition: Condition, attacker: str) -> str:
    if attacker in WORST_CASES:
        by = summary.strongest(condition, attacker)
        return TITLES[attacker] + (f": {by}" if by else "")
    notes = ["white-box"] if summary.white_box(condition, attacker) else []
    notes += [] if attacker in summary.able else ["uninformative: does not link the undefended model"]
    notes += [] if selection.about_faces(attacker) else ["looks beyond the face: not in worst cases"]
    notes += ["given known posts: not in worst cases"] if selection.knows_posts(attacker) else []
    return f"{attacker} ({', '.join(notes)})" if notes else attacker


def _arrow(name: str) -> str:
    # A no-break space keeps the arrow with its word.
    return f"{metric(name).title}\u00a0{'↑' if metric(name).better == 'higher' else '↓'}"


def _linked(probes: pd.DataFrame, attacker: str) -> str:
    own = probes[probes["attacker"] == attacker]
    if own.empty:
        return "–"
    lost = int((~own["acquired"]).sum())
    text = f"{int((own['rank'] == 1).sum())} / {len(own)}"
    return f"{text} ({lost} no face)" if lost else text


def _repeat(names: Sequence[str]) -> list[str]:
    return [name for name in names for _ in POLICIES]
