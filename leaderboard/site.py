"""The static site: pages that need no server and load nothing from elsewhere; everything from submissions is escaped.

jinja2 escapes HTML; data for the scripts stand in <script type="application/json"> through `tojson`, which escapes what could
end the element; the scripts write text nodes only. Markdown, CSV and Atom exports have their own escapes (`exports`).
"""

import hashlib
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from iddmbench import __version__
from iddmbench.errors import UserError
from iddmbench.leaderboard.about import NO_GAIN, about, origin
from iddmbench.leaderboard.board import ENTRIES, SHEET, Place, by_track, places, read_entries
from iddmbench.leaderboard.entry import Entry, Figure
from iddmbench.leaderboard.exports import atom, curves_csv, markdown_table, standings_csv
from iddmbench.leaderboard.tracks import counted
from iddmbench.linking.ranking import ENOUGH, METRICS
from iddmbench.report.figures import NEAR, PALETTE, SYMBOLS, color, lap, symbol
from iddmbench.results import summary
from iddmbench.results.metric_info import METRICS as CATALOGUE
from iddmbench.results.metric_info import metric
from iddmbench.results.reproduce import shell
from iddmbench.results.run_folder import (
    ADAPTIVE,
    ADAPTIVE_WHITE_BOX,
    TRANSFER,
    WHITE_BOX,
    WORST_CASE,
    WORST_CASE_ADAPTIVE,
    WORST_CASE_TRANSFER,
)
from iddmbench.results.summary import TITLES
from iddmbench.submission import authenticity, compare, read, repeats, retrain, verify
from iddmbench.wheel_files import wheel_file

THREATS = {
    WORST_CASE: "the strongest single attacker of all plain ones, white-box ones included",
    WORST_CASE_ADAPTIVE: "the strongest of these and of all adaptive attackers that link people",
    WORST_CASE_TRANSFER: "the strongest plain attacker that the defense did not optimize against",
    TRANSFER: "an attacker that the defense does not know",
    ADAPTIVE: "an attacker that knows the defense and adapts to it",
    WHITE_BOX: "an attacker that the defense optimized against",
    ADAPTIVE_WHITE_BOX: "an adaptive attacker that rests on a system that the defense optimized against",
}
TITLE = "IDDM-Bench leaderboard"
JUDGES = {
    WORST_CASE: "strongest attacker",
    WORST_CASE_ADAPTIVE: "strongest attacker, adaptive too",
    WORST_CASE_TRANSFER: "strongest transfer attacker",
}
SIGNS, DASHES = ("", "-open", "-open-dot", "-dot"), ("solid", "dash", "dashdot", "longdash")
"""What tells submissions of one defense apart, and defenses of one colour: endings of plotly's markers, and dashes."""
LINES = 8
"""Most attackers whose curves a submission's page draws at first."""


def build_site(board: Path, out: Path, url: str = "") -> int:
    """Write the site of a board; returns the number of pages.

    Args:
        board: leaderboard folder; out: is made, and files of an earlier build are replaced.
        url: where the site will be, for links in the feed; empty: relative ones.

    Raises UserError when an entry is not valid or plotly is not installed.
    """
    if out.exists() and any(out.iterdir()) and not (out / "assets" / "board.js").is_file():
        raise UserError(f"{out} holds other files: give another --out")
    if url and not url.startswith(("https://", "http://")):
        raise UserError(f"--url {url}: give a URL that begins with https://")
    entries = read_entries(board)
    script = plotly_script()
    assets = out / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(script, assets / "plotly.min.js")
    for name in ("style.css", "board.js"):
        (assets / name).write_text(
            (files("iddmbench.leaderboard") / "static" / name).read_text("utf-8"), encoding="utf-8"
        )
    pages = out / "submissions"
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir()
    templates = Environment(
        loader=PackageLoader("iddmbench.leaderboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"figure": figure_text, "rate": rate}
    tracks = by_track(entries)
    ranked = {track: ranking(own) for track, own in tracks.items()}
    shared = {"version": __version__, "site": TITLE, "count": len(entries)}

    def render(name: str, **values: Any) -> str:
        return templates.get_template(name).render(**shared, **values)

    front = {
        "tracks": {t: track_title(own[0]) for t, own in tracks.items()},
        "metrics": {m: metric(m).title for m in METRICS},
        "threats": {k: v for k, v in THREATS.items() if any(s.threat == k for e in entries for s in e.standings)},
        "entries": {e.id: entry_data(e, look) for own in tracks.values() for e, look in looks(own)},
        "rows": [row_data(p) for places_ in ranked.values() for p in places_],
        "anchors": anchor_titles(),
    }
    start = next(iter(tracks), "")
    shown = [p for p in ranked.get(start, []) if _is(p, WORST_CASE, METRICS[0])]
    shown += [p for p in ranked.get(start, []) if p.standing is None]
    text = render(
        "index.html",
        root="",
        data=front,
        places=[(p, row_data(p)) for p in shown],
        latest=list(reversed(entries))[:20],
        kept=counted(entries),
        start=start,
    )
    (out / "index.html").write_text(text, encoding="utf-8")
    (out / "methodology.html").write_text(render("methodology.html", root="", **methodology()), encoding="utf-8")
    for entry in entries:
        folder = board / ENTRIES / entry.id
        sheet = f"{entry.id}.png" if (folder / SHEET).is_file() else ""
        if sheet:
            shutil.copyfile(folder / SHEET, pages / sheet)
        look = next(look for other, look in looks(tracks[entry.track]) if other.id == entry.id)
        values = page_data(entry, ranked[entry.track], look)
        page = render("submission.html", root="../", entry=entry, sheet=sheet, **values)
        (pages / f"{entry.id}.html").write_text(page, encoding="utf-8")
    (out / "leaderboard.md").write_text(markdown_table(tracks, ranked), encoding="utf-8")
    (out / "leaderboard.csv").write_text(standings_csv(ranked), encoding="utf-8", newline="")
    (out / "curves.csv").write_text(curves_csv(entries), encoding="utf-8", newline="")
    (out / "feed.xml").write_bytes(atom(entries, url))
    return 2 + len(entries)


def plotly_script() -> Path:
    """plotly.min.js as the plotly package ships it. Raises UserError when the package is absent."""
    try:
        return wheel_file("plotly", "package_data/plotly.min.js")
    except UserError as error:
        raise UserError("the site's curves need plotly: pip install plotly") from error


def ranking(entries: Sequence[Entry]) -> list[Place]:
    """Places of one track: by metric, then threat and judge. Ranks hold among entries whose judge is the same threat."""
    found: list[Place] = []
    for name in METRICS:
        pairs = dict.fromkeys(
            (s.threat, s.judge) for t in THREATS for e in entries for s in e.standings if s.threat == t
        )
        for threat, judge in pairs:
            own = [e for e in entries if (s := e.standing(judge, name)) is not None and s.threat == threat]
            found += places(own, judge, name)
    without = [e for e in entries if not e.standings]
    return [*found, *(Place(e, None, None, ()) for e in without)]


def track_title(entry: Entry) -> str:
    code = entry.track.rpartition("-")[2][:6]
    return f"{entry.dataset} · {entry.base} · {entry.subjects} subjects · protocol {entry.protocol.version} ({code})"


def row_data(place: Place) -> dict[str, Any]:
    """A table row for the script."""
    entry, s = place.entry, place.standing
    last = max((f.strength for f in entry.figures if f.strength is not None), default=None)
    strongest = entry.figure(entry.defense, last, s.metric, s.judge) if s else None
    index = entry.figure(entry.defense, last, "utility_index")
    return {
        "track": entry.track,
        "id": entry.id,
        "judge": s.judge if s else "",
        "threat": s.threat if s else "",
        "metric": s.metric if s else "",
        "rank": place.rank,
        "tied": list(place.tied),
        "area": [s.value, s.low, s.high] if s else None,
        "privacy_at": s.privacy_at if s else None,
        "utility_at": s.utility_at if s else None,
        "privacy": strongest.value if strongest else None,
        "utility": index.value if index else None,
        "over": judges_of(entry, s.judge) if s else "",
        "about": about(entry, s.judge, s.metric) if s else about(entry),
    }


def judges_of(entry: Entry, judge: str) -> str:
    """Whom a worst case is over; an attacker is itself."""
    return ", ".join(entry.judged_by(judge))


def looks(entries: Sequence[Entry]) -> list[tuple[Entry, dict[str, str]]]:
    """Colour, marker and dashes of each entry of a track. Colour and shape are the defense's; entries that would look alike
    differ in filling and dashes, in the order in which they came."""
    found, seen = [], dict[tuple[str, str], int]()
    for entry in entries:
        pair = color(entry.defense), symbol(entry.defense)
        again = seen[pair] = seen.get(pair, -1) + 1
        dash = DASHES[(lap(entry.defense) + again) % len(DASHES)]
        found.append((entry, {"color": pair[0], "symbol": pair[1] + SIGNS[again % len(SIGNS)], "dash": dash}))
    return found


def lines_of(entry: Entry) -> dict[str, dict[str, Any]]:
    """The curves of a submission's page: a judge's title, and a look for each attacker."""
    found: dict[str, dict[str, Any]] = {
        WORST_CASE: {"title": JUDGES[WORST_CASE], "joint": True, "dash": "solid"},
        WORST_CASE_ADAPTIVE: {"title": JUDGES[WORST_CASE_ADAPTIVE], "joint": True, "dash": "dash"},
        WORST_CASE_TRANSFER: {"title": JUDGES[WORST_CASE_TRANSFER], "joint": True, "dash": "longdash"},
    }
    tints = [tint for tint in PALETTE if tint != color(entry.defense)]  # that is the worst case's
    for i, attacker in enumerate(entry.attackers):
        look = {"color": tints[i % len(tints)], "symbol": SYMBOLS[(i + i // len(tints)) % len(SYMBOLS)]}
        known = attacker.threat in (WHITE_BOX, ADAPTIVE_WHITE_BOX)
        found[attacker.name] = look | {"title": attacker.name, "joint": False, "dash": "dot" if known else "solid"}
    return found


def entry_data(entry: Entry, look: dict[str, str]) -> dict[str, Any]:
    """An entry for the script: what the table and the curves show of it."""
    return {
        "name": entry.name,
        "title": entry.title,
        "defense": entry.defense,
        **look,
        "paper": entry.paper or "",
        "code": entry.code or "",
        "unranked": entry.unranked,
        "subjects": entry.subjects,
        "retrained": len(entry.checked.retrained),
        "stated": entry.stated,
        "added": entry.added.isoformat(),
        "curves": {
            judge: {name: curve(entry, judge, name) for name in METRICS}
            for judge in dict.fromkeys(f.attacker for f in entry.figures if f.attacker)
        },
    }


def curve(entry: Entry, judge: str, name: str) -> list[list[Any]]:
    """[condition, utility, low, high, privacy, low, high] of each condition; condition is a strength, "none" or "generic"."""
    points = []
    for defense, strength in entry.conditions:
        x, y = entry.figure(defense, strength, "utility_index"), entry.figure(defense, strength, name, judge)
        if x is not None and y is not None:
            points.append([defense if strength is None else strength, *_three(x), *_three(y)])
    return points


def anchor_titles() -> dict[str, str]:
    return {"none": TITLES["none"], "generic": "not personalized"}


def page_data(entry: Entry, ranked: Sequence[Place], look: dict[str, str]) -> dict[str, Any]:
    """What a submission's own page shows. Of many attackers the adaptive ones' curves are hidden at first."""
    adaptive = [a.name for a in entry.attackers if a.threat in (ADAPTIVE, ADAPTIVE_WHITE_BOX)]
    kept = [f.value for f in entry.figures if f.metric == "utility_index" and f.strength is not None]
    place = next((p for p in ranked if p.entry.id == entry.id and _is(p, WORST_CASE, METRICS[0])), None)
    judges = [WORST_CASE, WORST_CASE_ADAPTIVE, WORST_CASE_TRANSFER, *(a.name for a in entry.attackers)]
    present = {f.attacker for f in entry.figures}
    names = [m.name for m in CATALOGUE if any(f.metric == m.name for f in entry.figures)]
    return {
        "place": place,
        "others": {p.entry.id: p.entry.name for p in ranked},
        "track": track_title(entry),
        "judges": [j for j in judges if j in present],
        "judge_titles": {name: JUDGES.get(name, name) for name in judges},
        "privacy": [n for n in names if metric(n).kind == "privacy"],
        "shown": ("r1u", "psr@1e-2", "psr@1e-3", "fta"),
        "utility": sorted((n for n in names if metric(n).kind == "utility"), key=lambda n: n != "utility_index"),
        "titles": {m.name: f"{m.title} {'↑' if m.better == 'higher' else '↓'}" for m in CATALOGUE},
        "threats": THREATS,
        "conditions": [(d, s, anchor_titles().get(d, d) if s is None else f"{d} {s:g}") for d, s in entry.conditions],
        "command": shell(list(entry.command)),
        "origin": origin(entry),
        "no_gain": NO_GAIN if NO_GAIN in about(entry, WORST_CASE, METRICS[0]) else "",
        "over": judges_of(entry, WORST_CASE),
        "data": {
            "entries": {entry.id: entry_data(entry, look)},
            "lines": lines_of(entry),
            "hidden": adaptive if len(entry.attackers) > LINES else [],
            "enlarge": min(kept, default=0.0) >= NEAR,
            "metrics": {m: metric(m).title for m in METRICS},
            "anchors": anchor_titles(),
            "only": entry.id,
        },
    }


def methodology() -> dict[str, Any]:
    """Numbers that the methodology page states, from the code that uses them."""
    return {
        "grid": verify.GRID,
        "enough": ENOUGH,
        "tolerances": compare.ABSOLUTE,
        "rate": compare.RATE,
        "images": compare.IMAGES,
        "relative": compare.RELATIVE,
        "score": retrain.SCORE,
        "retrained_rate": retrain.RATE,
        "quality": retrain.QUALITY,
        "cell_images": retrain.IMAGES,
        "most_undefended": repeats.MOST,
        "repeated": repeats.REPEATED,
        "copy": authenticity.COPY,
        "twin": authenticity.TWIN,
        "same": authenticity.SAME,
        "share": authenticity.SHARE,
        "least": authenticity.LEAST_DEPENDENCE,
        "credited": verify.CREDITED,
        "least_subjects": verify.LEAST_SUBJECTS,
        "limits": (read.MOST_MEMBERS, read.MOST_JSON, read.MOST_IMAGE, read.MOST_BYTES, read.MOST_VALUES),
        "glossary": CATALOGUE,
        "threats": THREATS,
    }


def figure_text(found: Figure | None) -> str:
    """ "53 % [27, 80]", "0.97 [0.92, 1.00]", "–"."""
    return "–" if found is None else summary.figure_text(found.metric, found.value, found.low, found.high)


def rate(value: float | None) -> str:
    return "–" if value is None else summary.decimal(value)


def digest_of(site: Path) -> str:
    """SHA-256 over every file of a site: equal boards build equal sites."""
    found = hashlib.sha256()
    for path in sorted(p for p in site.rglob("*") if p.is_file()):
        found.update(path.relative_to(site).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def _is(place: Place, judge: str, name: str) -> bool:
    return place.standing is not None and (place.standing.judge, place.standing.metric) == (judge, name)


def _three(f: Figure) -> tuple[float, float | None, float | None]:
    return f.value, f.low, f.high
