"""The leaderboard as Markdown, CSV and an Atom feed, each with the escapes of its format."""

import csv
import io
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

from iddmbench.leaderboard.board import Place
from iddmbench.leaderboard.entry import Entry
from iddmbench.linking.ranking import METRICS
from iddmbench.results.metric_info import metric
from iddmbench.results.run_folder import WORST_CASE
from iddmbench.submission.text import csv_cell, markdown

ATOM = "http://www.w3.org/2005/Atom"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://arxiv.org/abs/2604.00903")


def markdown_table(tracks: Mapping[str, Sequence[Entry]], ranked: Mapping[str, Sequence[Place]]) -> str:
    """The worst-case ranking of every track."""
    lines = ["# IDDM-Bench leaderboard", ""]
    lines += [
        f"Hypervolume of ({metric(METRICS[0]).title} against the strongest attacker, utility index), 95 % intervals; "
        "= marks entries that a paired test over the subjects can't tell apart.",
        "",
    ]
    for track, entries in tracks.items():
        lines += [
            f"## {markdown(track)}",
            "",
            "| # | defense | hypervolume | judged by | subjects | links |",
            "|---|---|---|---|---|---|",
        ]
        shown = [
            p
            for p in ranked[track]
            if p.standing is None or (p.standing.judge, p.standing.metric) == (WORST_CASE, METRICS[0])
        ]
        for place in shown:
            entry, s = place.entry, place.standing
            area = "–" if s is None else _interval(s.value, s.low, s.high)
            links = ", ".join(f"[{t}](<{u}>)" for t, u in (("paper", entry.paper), ("code", entry.code)) if u)
            over = ", ".join(entry.judged_by(WORST_CASE))
            cells = [rank_text(place), markdown(entry.name), area, markdown(over), str(entry.subjects), links]
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", f"{len(entries)} submissions.", ""]
    return "\n".join(lines)


def standings_csv(ranked: Mapping[str, Sequence[Place]]) -> str:
    """One row per submission, judge and metric."""
    heads = [
        "track",
        "id",
        "name",
        "defense",
        "judge",
        "threat",
        "metric",
        "rank",
        "tied",
        "hypervolume",
        "low",
        "high",
    ]
    heads += [
        "privacy_at_utility_0.9",
        "utility_at_privacy_0.9",
        "strengths",
        "subjects",
        "unranked",
        "paper",
        "code",
        "added",
    ]
    rows = []
    for track, own in ranked.items():
        for place in own:
            e, s = place.entry, place.standing
            row: list[Any] = [track, e.id, e.name, e.defense, *((s.judge, s.threat, s.metric) if s else ("", "", ""))]
            row += [place.rank, len(place.tied), *((s.value, s.low, s.high) if s else (None,) * 3)]
            row += [s.privacy_at, s.utility_at, " ".join(f"{x:g}" for x in s.strengths)] if s else [None, None, ""]
            rows.append([*row, e.subjects, e.unranked, e.paper, e.code, e.added.isoformat()])
    return _csv(heads, rows)


def curves_csv(entries: Sequence[Entry]) -> str:
    """One row per figure: all that curves and tables are drawn from."""
    heads = [
        "track",
        "id",
        "name",
        "defense",
        "strength",
        "attacker",
        "threat",
        "metric",
        "value",
        "low",
        "high",
        "images",
    ]
    rows = []
    for e in entries:
        for f in e.figures:
            rows.append(
                [
                    e.track,
                    e.id,
                    e.name,
                    f.defense,
                    f.strength,
                    f.attacker,
                    f.threat,
                    f.metric,
                    f.value,
                    f.low,
                    f.high,
                    f.images,
                ]
            )
    return _csv(heads, rows)


def atom(entries: Sequence[Entry], url: str) -> bytes:
    """An Atom feed (RFC 4287), the latest entry first."""
    base = url.rstrip("/") + "/" if url else ""
    feed = ET.Element("feed", xmlns=ATOM)
    _text(feed, "title", "IDDM-Bench leaderboard")
    _text(feed, "id", base or f"urn:uuid:{NAMESPACE}")
    latest = max((e.added for e in entries), default=None)
    _text(feed, "updated", f"{latest.isoformat() if latest else '1970-01-01'}T00:00:00Z")
    _text(ET.SubElement(feed, "author"), "name", "IDDM-Bench")
    ET.SubElement(feed, "link", rel="self", href=f"{base}feed.xml")
    for e in sorted(entries, key=lambda e: (e.added, e.id), reverse=True):
        item = ET.SubElement(feed, "entry")
        _text(item, "title", e.name)
        _text(item, "id", f"urn:uuid:{uuid.uuid5(NAMESPACE, e.id)}")
        _text(item, "updated", f"{e.added.isoformat()}T00:00:00Z")
        ET.SubElement(item, "link", href=f"{base}submissions/{e.id}.html")
        s = e.standing(WORST_CASE, METRICS[0])
        area = f"hypervolume {_interval(s.value, s.low, s.high)}" if s else "no hypervolume"
        reason = f", not ranked: {e.unranked}" if e.unranked else ""
        _text(item, "summary", f"{e.title}; {e.dataset} on {e.base}, {area}{reason}")
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(feed, encoding="utf-8")


def rank_text(place: Place) -> str:
    return "–" if place.rank is None else f"{place.rank}{' =' if place.tied else ''}"


def _csv(heads: list[str], rows: list[list]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(heads)
    for row in rows:
        writer.writerow(["" if x is None else csv_cell(x) if isinstance(x, str) else x for x in row])
    return stream.getvalue()


def _interval(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _text(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, tag).text = text
