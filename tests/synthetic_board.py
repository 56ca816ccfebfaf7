"""A leaderboard folder with invented entries, for tests of ranking and site."""

from datetime import date
from pathlib import Path
from typing import Any

from PIL import Image

from iddmbench.leaderboard.board import ENTRIES, SHEET
from iddmbench.leaderboard.entry import Entry, write_entry

GRID = (0.5, 1.0)
ATTACKERS = (("dlib", "transfer"), ("sface", "white-box"), ("purify:dlib", "adaptive"))
BY = {"worst-case": "dlib", "worst-case-adaptive": "purify:dlib", "worst-case-transfer": "dlib"}
METHODS = (
    # id, name, defense, privacy at 0.5 and 1, utility at 0.5 and 1, half width of the hypervolume's interval
    ("iddm-sface", "IDDM (surrogate SFace)", "iddm", (0.62, 0.97), (0.98, 0.90), 0.05),
    ("iddm-direct", "IDDM-direct", "iddm-direct", (0.66, 0.93), (0.97, 0.88), 0.05),
    ("simac", "SimAC", "simac", (0.25, 0.55), (0.95, 0.71), 0.04),
    ("aspl", "ASPL (Anti-DreamBooth)", "aspl", (0.22, 0.47), (0.93, 0.66), 0.04),
    ("mist", "Mist", "mist", (0.2, 0.38), (0.97, 0.84), 0.03),
    ("blur", "Gaussian blur", "blur", (0.31, 0.88), (0.83, 0.35), 0.06),
    ("noise", "Random noise", "random-noise", (0.17, 0.2), (1.0, 0.98), 0.03),
)


CROWD = (
    *(
        "iddm",
        "aspl",
        "simac",
        "metacloak",
        "random-noise",
        "mist",
        "fsmg",
        "advdm",
        "caat",
        "photoguard",
        "cloak",
        "blur",
    ),
    *("pixelate", "iddm", "iddm", "aspl", "cloak", "their-method", "a.very.long.name.of.somebody.elses.method", "veil"),
)
"""Defenses of a track of twenty: thirteen that are shipped, some of them twice, and three that nobody has installed."""


def crowd() -> list[Entry]:
    """One entry for each of CROWD; half of them keep utility near 1, some lose it, some lose little privacy."""
    entries = []
    for i, defense in enumerate(CROWD):
        useful = (0.99 - 0.004 * i, 0.97 - 0.012 * i) if i % 2 else (0.8 - 0.03 * i, 0.5 - 0.02 * i)
        privacy = (0.2 + 0.03 * ((7 * i) % 13), 0.3 + 0.05 * ((5 * i) % 13))
        title = f"{defense} of group {i + 1}" + " and of many others who have a long name" * (i % 5 == 4)
        entries.append(entry(f"e{i:02d}", title[:80], defense, privacy, useful, 0.04, added=date(2026, 5, i + 1)))
    return entries


def entry(
    name: str = "iddm-sface",
    title: str = "IDDM (surrogate SFace)",
    defense: str = "iddm",
    privacy: tuple[float, ...] = (0.62, 0.97),
    utility: tuple[float, ...] = (0.98, 0.9),
    half: float = 0.05,
    **changes: Any,
) -> Entry:
    figures = []
    conditions = [
        ("none", None, 0.13, 1.0),
        *((defense, *x) for x in zip(GRID, privacy, utility, strict=True)),
        ("generic", None, 1.0, 0.0),
    ]
    for method, strength, p, u in conditions:
        for attacker, threat in (*((w, w) for w in BY), *ATTACKERS):
            gain = (
                {"white-box": 0.1, "adaptive": -0.08, "worst-case-adaptive": -0.1}.get(threat, 0.0) if strength else 0.0
            )
            for metric, more in (("psr@1e-2", 0.0), ("psr@1e-3", 0.15), ("r1u", -0.07), ("fta", -1.0)):
                value = min(1.0, max(0.0, p + gain + more))
                figures.append(figure(method, strength, attacker, threat, metric, value))
        for metric in ("utility_index", "face_detection_rate", "ser_fiq"):
            figures.append(figure(method, strength, "", "", metric, u))
    area = hypervolume(((0.13, 1.0), *zip(privacy, utility, strict=True)))
    standings = [
        {
            "judge": judge,
            "threat": threat,
            "metric": metric,
            "strengths": (0.0, *GRID),
            "value": area - less,
            "low": max(0.0, area - less - half),
            "high": min(1.0, area - less + half),
            "privacy_at": max(privacy) if min(utility) >= 0.9 else privacy[0],
            "utility_at": utility[1] if privacy[1] >= 0.9 else None,
            "by": (BY.get(judge, judge),) * 3,
            "per_subject": per_subject(area - less, half),
        }
        for judge, threat, less in (
            ("worst-case", "worst-case", 0.0),
            ("dlib", "transfer", 0.0),
            ("sface", "white-box", 0.0),
            ("purify:dlib", "adaptive", 0.06),
            ("worst-case-adaptive", "worst-case-adaptive", 0.08),
            ("worst-case-transfer", "worst-case-transfer", 0.0),
        )
        for metric in ("psr@1e-2", "psr@1e-3", "r1u")
    ]
    content: dict[str, Any] = {
        "schema": 2,
        "id": name,
        "added": "2026-05-01",
        "name": title,
        "defense": defense,
        "title": f"{title}: one line on how it works",
        "authors": ["A. Author", "B. Author"],
        "paper": "https://arxiv.org/abs/2604.00903",
        "code": "https://example.org/code",
        "description": "",
        "track": "orl-micro-12-0123456789ab",
        "dataset": "orl",
        "base": "micro",
        "personalizer": "lora",
        "protocol": {"version": "1", "hash": "8027701ffe3af1ffa0cdf314c64c089e"},
        "subjects": 12,
        "seeds": (0,),
        "images": 384,
        "options": {"rounds": "8"},
        "white_box": ["sface"],
        "stated": False,
        "command": ["iddmbench", "run", "--defense", defense, "--strength", "0.5", "--subject", "s29"],
        "attackers": [
            {
                "name": a,
                "title": f"{a} system",
                "threat": t,
                "licence": "MIT",
                "source": "a package",
                "fingerprint": "ab" * 32,
                "threshold": 0.42,
                "pairs": 7560,
            }
            for a, t in ATTACKERS
        ],
        "figures": figures,
        "standings": standings,
        "unranked": "",
        "checked": {
            "day": "2026-05-01",
            "iddmbench": "0.1.0",
            "bundle": "cd" * 32,
            "anchors": "ef" * 32,
            "retrained": ["iddm at strength 1, s29, seed 0: retrained, images differ by 0.4 gray levels"],
            "differences": [],
            "notes": ["chosen by the verifier: purify:dlib"],
        },
    }
    return Entry.model_validate(content | changes)


def per_subject(area: float, half: float) -> dict[str, dict[str, Any]]:
    """Twelve subjects whose shares have that mean; half of them are above it and half below by up to `half`."""
    spread = [half * (-1) ** i * (1 + i // 2) / 6 for i in range(12)]
    counts = {"hits": (15, 8, 2), "images": (16, 16, 15), "utility": (1.0, 0.9, 0.8)}
    return {f"s{29 + i}": {"area": area + more, **counts} for i, more in enumerate(spread)}


def figure(
    defense: str, strength: float | None, attacker: str, threat: str, metric: str, value: float
) -> dict[str, Any]:
    ends = {"low": max(0.0, value - 0.06), "high": min(1.0, value + 0.05)}
    where = {"defense": defense, "strength": strength, "attacker": attacker, "threat": threat, "metric": metric}
    return {**where, "value": value, **ends, "images": 192, "missing": 0}


def hypervolume(points: tuple[tuple[float, float], ...]) -> float:
    area, reached = 0.0, 0.0
    for p, u in sorted(points, key=lambda x: (-x[1], -x[0])):
        if p > reached:
            area, reached = area + (p - reached) * u, p
    return area


def write_board(board: Path, entries: list[Entry] | None = None) -> list[Entry]:
    """Write them, or one of each of METHODS and one without a rank."""
    if entries is None:
        entries = [entry(*m, added=date(2026, 5, i + 1)) for i, m in enumerate(METHODS)]
        partial = entry("caat", "CAAT", "caat", (0.3, 0.5), (0.9, 0.8), unranked="4 of 12 subjects", subjects=4)
        entries.append(partial)
    for one in entries:
        write_entry(one, board / ENTRIES / one.id)
        Image.new("RGB", (1200, 300), "white").save(board / ENTRIES / one.id / SHEET)
    return entries
