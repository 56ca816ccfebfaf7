"""An accepted submission, as `leaderboard/entries/ID/entry.json` holds it. Every figure in it was recomputed by `verify`."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from iddmbench import __version__
from iddmbench.adaptive import ADAPTIVE, parse
from iddmbench.attacker import build_attacker
from iddmbench.errors import UserError
from iddmbench.results.reproduce import command
from iddmbench.results.run_folder import (
    ADAPTIVE_WHITE_BOX,
    WHITE_BOX,
    WORST_CASE_ADAPTIVE,
    WORST_CASES,
    RunFolder,
)
from iddmbench.submission.names import public_name
from iddmbench.submission.read import strict_json
from iddmbench.submission.schema import Frozen, Number, Options, Protocol, Share, printable
from iddmbench.submission.text import AttackerName, Hash, Line, Paragraph, Slug, Title, Url
from iddmbench.submission.verify import Verification

ENTRY_SCHEMA = 2
FILE = "entry.json"
Threat = Literal[
    "worst-case",
    "worst-case-adaptive",
    "worst-case-transfer",
    "union",
    "union-adaptive",
    "transfer",
    "white-box",
    "adaptive",
    "adaptive white-box",
    "",
]
Many = Annotated[int, Field(ge=0)]


class Figure(Frozen):
    """One recomputed figure. `strength` is null for the anchors; an interval end is null where there is none."""

    defense: Slug
    strength: Share | None
    attacker: AttackerName | Literal[""]
    threat: Threat = Field(description="the worst cases are their own threats")
    metric: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._@+-]+$")]
    value: Number
    low: Number | None
    high: Number | None
    images: Many
    missing: Many


class EntryShare(Frozen):
    """`iddmbench.linking.ranking.SubjectShare`, as JSON; lists go by strength."""

    area: Number
    hits: tuple[Many, ...]
    images: tuple[Many, ...]
    utility: tuple[Share | None, ...]


class Rank(Frozen):
    """`iddmbench.linking.ranking.Standing`, as JSON."""

    judge: AttackerName
    threat: Threat
    metric: Annotated[str, Field(max_length=64)]
    strengths: tuple[Share, ...]
    value: Share
    low: Share | None
    high: Share | None
    privacy_at: Share | None
    utility_at: Share | None
    by: tuple[AttackerName, ...] = Field((), description="the strongest attacker at each strength")
    per_subject: Annotated[dict[Line, EntryShare], Field(max_length=10_000)] = Field(
        default_factory=dict, description="what tells two entries apart: a paired test over the subjects"
    )


class AttackerFacts(Frozen):
    """An attacker of the verification. An adaptive one has the licences and sources of the systems that it wraps, and no
    threshold: it calibrates one for every subject."""

    name: AttackerName
    title: Line
    threat: Threat
    licence: Line
    source: Line
    fingerprint: Hash
    threshold: Number | None = Field(description="at FAR 1e-2")
    pairs: Many = Field(description="impostor pairs behind the threshold")


class Checked(Frozen):
    """What verification did and found."""

    day: date
    iddmbench: Slug
    bundle: Hash
    anchors: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = Field(description="trusted anchors; empty: none")
    retrained: Annotated[tuple[Line, ...], Field(max_length=1000)]
    differences: Annotated[tuple[Line, ...], Field(max_length=1000)]
    notes: Annotated[tuple[Line, ...], Field(max_length=1000)]


class Entry(Frozen):
    schema_version: Literal[2] = Field(alias="schema")
    id: Slug
    added: date
    name: Title
    defense: Slug
    title: Line
    authors: Annotated[tuple[Title, ...], Field(max_length=50)] = ()
    paper: Url | None = None
    code: Url | None = None
    description: Paragraph = ""
    track: Annotated[str, Field(max_length=160, pattern=r"^[A-Za-z0-9._-]+$")]
    dataset: Slug
    base: Slug
    personalizer: Slug
    protocol: Protocol
    subjects: Many
    seeds: tuple[int, ...]
    images: Many = Field(description="submitted images, without the trusted anchors'")
    options: Options
    white_box: tuple[AttackerName, ...]
    stated: bool = Field(
        description="the defense is not installed with the verifier: white-box attackers are the submitter's word"
    )
    command: Annotated[tuple[Annotated[str, Field(max_length=200_000)], ...], Field(max_length=1000)]
    attackers: tuple[AttackerFacts, ...]
    figures: Annotated[tuple[Figure, ...], Field(max_length=100_000)]
    standings: tuple[Rank, ...]
    unranked: Annotated[str, Field(max_length=300)] = Field(
        description="why it is listed without a rank; empty: ranked"
    )
    checked: Checked

    def standing(self, judge: str, metric: str) -> Rank | None:
        return next((r for r in self.standings if r.judge == judge and r.metric == metric), None)

    def figure(self, defense: str, strength: float | None, metric: str, attacker: str = "") -> Figure | None:
        return next(
            (
                f
                for f in self.figures
                if (f.defense, f.strength, f.metric, f.attacker) == (defense, strength, metric, attacker)
            ),
            None,
        )

    def judged_by(self, judge: str) -> list[str]:
        """The attackers that a judge is: those that attain a worst case at some strength, or itself."""
        found = [name for rank in self.standings if rank.judge == judge for name in rank.by]
        return list(dict.fromkeys(found)) or ([] if judge in WORST_CASES else [judge])

    @property
    def conditions(self) -> list[tuple[str, float | None]]:
        """Undefended, the defense by strength, generic."""
        found = dict.fromkeys((f.defense, f.strength) for f in self.figures)
        return sorted(found, key=lambda c: ({"none": 0, "generic": 2}.get(c[0], 1), c[1] or 0.0))


def make_entry(found: Verification, name: str, day: date) -> Entry:
    """The entry of a verified submission. `name`: its id."""
    meta, run = found.bundle.meta, found.run
    threats = _threats(run, meta.defense)
    fingerprints = dict(zip(run.calibration["attacker"], run.calibration["fingerprint"], strict=True))
    names = {attacker: public_name(attacker, fingerprints) for attacker in found.attackers}
    content = {
        "schema": ENTRY_SCHEMA,
        "id": name,
        "added": day.isoformat(),
        **{k: getattr(meta, k) for k in ("name", "defense", "title", "authors", "paper", "code", "description")},
        "track": found.track,
        **{k: getattr(meta.run, k) for k in ("dataset", "base", "personalizer")},
        "protocol": meta.protocol,
        "subjects": len(meta.run.subjects),
        "seeds": meta.run.seeds,
        "images": sum(len(p.bits) for p in found.posted),
        "options": meta.run.defense_options,
        "white_box": found.white_box,
        "stated": found.stated,
        "command": command({**run.config, "attackers": [names[a] for a in found.attackers]}),
        "attackers": _renamed("name", [*_plain(run, threats), *_adaptive(found.attackers, threats)], names),
        "figures": _renamed("attacker", _figures(run, found.attackers), names),
        "standings": [
            {
                "judge": names.get(s.judge, s.judge),
                "threat": s.judge if s.judge in WORST_CASES else threats.get(s.judge, ""),
                "metric": s.metric,
                "strengths": s.strengths,
                "value": s.hypervolume.value,
                "low": _known(s.hypervolume.low),
                "high": _known(s.hypervolume.high),
                "privacy_at": s.privacy_at,
                "utility_at": s.utility_at,
                "by": [names.get(one, one) for one in s.by],
                "per_subject": s.per_subject_json(),
            }
            for s in found.standings
        ],
        "unranked": found.unranked,
        "checked": {
            "day": day.isoformat(),
            "iddmbench": __version__,
            "bundle": found.bundle.sha256,
            "anchors": found.anchors,
            "retrained": [_line(r) for r in found.retrained],
            "differences": [_line(d) for d in found.differences],
            "notes": [_line(_without_paths(n, names)) for n in found.notes],
        },
    }
    return Entry.model_validate(content)


def read_entry(folder: Path) -> Entry:
    """Raises UserError if the file is not a valid entry, or not the one its folder is named after."""
    path = folder / FILE
    try:
        content = strict_json(path.read_bytes(), str(path))
        found = content.get("schema") if isinstance(content, dict) else None
        if isinstance(found, int) and found < ENTRY_SCHEMA:
            raise UserError(
                f"{path} is an entry of schema {found}, this version reads {ENTRY_SCHEMA} (older intervals were too narrow): "
                "verify its bundle and add it again"
            )
        entry = Entry.model_validate(content)
    except (OSError, ValidationError) as error:
        first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise UserError(printable(f"{path} is not a valid entry: {reason}")) from error
    if entry.id != folder.name:
        raise UserError(f"{path} contains entry '{entry.id}': rename the folder")
    return entry


def write_entry(entry: Entry, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(entry.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=True, allow_nan=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def _figures(run: RunFolder, attackers: Iterable[str]) -> Iterable[dict[str, Any]]:
    rows = run.summary[run.summary["policy"].isin(["", "headline"]) | _one_policy(run)]
    if not any(parse(name) for name in attackers):
        rows = rows[rows["attacker"] != WORST_CASE_ADAPTIVE]  # it would say that adaptive attackers were tried
    for row in rows.to_dict("records"):
        if math.isfinite(row["value"]):
            yield {
                "defense": str(row["defense"]),
                "strength": _known(float(row["strength"])),
                "attacker": str(row["attacker"]),
                "threat": str(row["attacker"] if row["attacker"] in WORST_CASES else row["threat"]),
                "metric": str(row["metric"]),
                "value": float(row["value"]),
                "low": _known(float(row["low"])),
                "high": _known(float(row["high"])),
                "images": int(row["images"]),
                "missing": int(row["missing"]),
            }


def _renamed(key: str, rows: Iterable[dict[str, Any]], names: Mapping[str, str]) -> list[dict[str, Any]]:
    return [row | {key: names.get(row[key], row[key])} for row in rows]


def _without_paths(text: str, names: Mapping[str, str]) -> str:
    for name in sorted(names, key=len, reverse=True):  # an adaptive attacker's name holds a plain one's
        text = text.replace(name, names[name]) if names[name] != name else text
    return text


def _one_policy(run: RunFolder) -> Any:
    """Rows of figures that are of acquired probes by definition (ISM, EER ...): they have no headline."""
    headline = set(run.summary.loc[run.summary["policy"] == "headline", "metric"])
    return (run.summary["policy"] == "acquired") & ~run.summary["metric"].isin(headline)


def _threats(run: RunFolder, defense: str) -> dict[str, str]:
    rows = run.summary[(run.summary["defense"] == defense) & (run.summary["attacker"] != "")]
    return {str(r["attacker"]): str(r["threat"]) for r in rows.to_dict("records")}


def _plain(run: RunFolder, threats: dict[str, str]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in run.calibration.to_dict("records"):
        facts = {k: _line(row[k]) for k in ("title", "licence", "source", "fingerprint")}
        name = str(row["attacker"])
        found.setdefault(name, {"name": name, "threat": threats.get(name, ""), **facts, "threshold": None, "pairs": 0})
        if abs(row["far"] - 1e-2) < 1e-9:
            found[name] |= {"threshold": float(row["threshold"]), "pairs": int(row["impostor_pairs"])}
    order = {WHITE_BOX: 1}
    return sorted(found.values(), key=lambda a: (order.get(a["threat"], 0), a["name"]))


def _adaptive(attackers: Iterable[str], threats: dict[str, str]) -> list[dict[str, Any]]:
    found = []
    for name, parsed in ((name, parse(name)) for name in attackers):
        if parsed is None:
            continue
        systems = [build_attacker(base) for base in parsed.bases]
        wraps = [(system.name, system.fingerprint()) for system in systems]
        facts = {
            "title": _line(ADAPTIVE.get(parsed.kind).title),
            "licence": _line(", ".join(dict.fromkeys(system.licence for system in systems))),
            "source": _line(", ".join(dict.fromkeys(system.source for system in systems))),
            "fingerprint": hashlib.sha256(json.dumps([parsed.kind, wraps]).encode()).hexdigest(),
        }
        found.append({"name": name, "threat": threats.get(name, ""), **facts, "threshold": None, "pairs": 0})
    return sorted(found, key=lambda a: (a["threat"] == ADAPTIVE_WHITE_BOX, a["name"]))


def _line(text: object) -> str:
    """As a `Line` may be: one line, cut, not empty."""
    return printable(" ".join(str(text).split()), 200).strip() or "–"


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
