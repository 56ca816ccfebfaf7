"""What a tracker is told of a finished run: its settings, its figures, and its two pictures."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from iddmbench.results.metric_info import metric
from iddmbench.results.run_folder import FIGURES, WORST_CASE, RunFolder, label
from iddmbench.results.summary import Summary, figure_text

Setting = bool | int | float | str
HEADLINE = ("", "headline", "acquired")
"""Policies by which a figure is the headline one: most figures know one policy only."""
PRIVATE = ("folder",)
"""Datasets whose photos are the user's own."""
LOCAL = ("root", "folder")
"""Options that hold a path on this machine, which says nothing to others and may say too much."""
PATH = re.compile(r"(?<![\w/])/(?:[^\s,:;/]+/)*([^\s,:;/]+)")
"""A path from the root on, in a setting or in the name of an attacker that is a file."""
SHEET = "contact_sheet"
PICTURES = ("tradeoff", SHEET)
CHOSEN = ((WORST_CASE, "r1u"), (WORST_CASE, "psr@1e-2"), ("", "utility_index"))
"""Attacker and metric of the figures by which runs are listed."""


@dataclass(frozen=True)
class TrackedFigure:
    """One figure with its 95 % interval (NaN where there is none); attacker is empty for utility, strength None for anchors."""

    defense: str
    strength: float | None
    attacker: str
    metric: str
    value: float
    low: float
    high: float

    @property
    def condition(self) -> str:
        return label(self.defense, self.strength)

    @property
    def judge(self) -> str:
        return self.attacker or "utility"


@dataclass(frozen=True)
class Record:
    """A finished run, as trackers are told.

    Attributes:
        name: the run folder's; unique among a project's runs. group: of a sweep, its folder's name; else empty.
        settings: the run's configuration, flat: {"dataset": "orl", "lora.rank": 16, "subjects": "s29, s30"}.
        figures: every headline figure. pictures: PNG files by name, those that there are.
        private: the photos are the user's own.
    """

    folder: Path
    name: str
    group: str
    settings: Mapping[str, Setting]
    figures: tuple[TrackedFigure, ...]
    pictures: Mapping[str, Path]
    private: bool

    @classmethod
    def of(cls, run: RunFolder, group: str = "") -> "Record":
        """Read a run whose figures are drawn (`iddmbench.report.write`)."""
        drawn = {name: run.path / FIGURES / f"{name}.png" for name in PICTURES}
        return cls(
            run.path,
            run.name,
            group,
            dict(_flat(run.config)),
            tuple(_figures(run)),
            {name: path for name, path in drawn.items() if path.is_file()},
            run.config.get("dataset") in PRIVATE,
        )

    def without_people(self) -> "Record":
        """Without the contact sheet, which shows photos, and without names of people."""
        pictures = {name: path for name, path in self.pictures.items() if name != SHEET}
        return replace(
            self,
            pictures=pictures,
            settings={k: v for k, v in self.settings.items() if k not in ("subjects", "target")},
        )

    @property
    def chosen(self) -> dict[str, float]:
        """The figures by which runs are listed, of the condition that comes last: the strongest of the last defense."""
        defended = [figure for figure in self.figures if figure.strength is not None]
        last = defended[-1].condition if defended else ""
        found = {(f.attacker, f.metric): f.value for f in self.figures if f.condition == last}
        return {f"{a or 'utility'}/{m}": found[a, m] for a, m in CHOSEN if (a, m) in found}

    def named(self) -> dict[str, float]:
        """The figures by name: "iddm-1.00/worst-case/r1u", "none/utility/face_detection_rate"."""
        return {f"{f.condition}/{f.judge}/{f.metric}": f.value for f in self.figures}

    def table(self) -> pd.DataFrame:
        """One row per figure."""
        rows = [
            {
                "condition": f.condition,
                "attacker": f.attacker,
                "metric": f.metric,
                "title": metric(f.metric).title,
                "value": f.value,
                "low": f.low,
                "high": f.high,
            }
            for f in self.figures
        ]
        return pd.DataFrame(rows, columns=["condition", "attacker", "metric", "title", "value", "low", "high"])

    def markdown(self, metrics: tuple[str, ...]) -> str:
        """A table of these metrics: a row for each condition and attacker, figures with their intervals."""
        found = {(f.condition, f.attacker, f.metric): f for f in self.figures}
        rows = dict.fromkeys((f.condition, f.attacker) for f in self.figures if f.metric in metrics)
        lines = ["| condition | attacker | " + " | ".join(metric(m).title for m in metrics) + " |"]
        lines.append("|---" * (2 + len(metrics)) + "|")
        for condition, attacker in rows:
            cells = [found.get((condition, attacker, m)) for m in metrics]
            shown = [figure_text(f.metric, f.value, f.low, f.high) if f else "–" for f in cells]
            lines.append(f"| {condition} | {attacker or 'utility'} | {' | '.join(shown)} |")
        return "\n".join(lines)


def _figures(run: RunFolder) -> Iterator[TrackedFigure]:
    places = {condition: place for place, condition in enumerate(Summary(run).conditions)}
    keys = {(c.defense, -1.0 if c.strength is None else c.strength): place for c, place in places.items()}
    rows = [r for r in run.summary.to_dict("records") if r["policy"] in HEADLINE and math.isfinite(r["value"])]
    # A figure with a headline policy has others too, "acquired" among them.
    twice = {_key(row) for row in rows if row["policy"] == "headline"}
    kept = [row for row in rows if row["policy"] == "headline" or _key(row) not in twice]
    for row in sorted(kept, key=lambda row: keys[_condition(row)]):
        strength = float(row["strength"])
        yield TrackedFigure(
            str(row["defense"]),
            None if math.isnan(strength) else strength,
            _public(str(row["attacker"])),
            str(row["metric"]),
            float(row["value"]),
            float(row["low"]),
            float(row["high"]),
        )


def _condition(row: Mapping[Any, Any]) -> tuple[str, float]:
    return str(row["defense"]), -1.0 if math.isnan(row["strength"]) else float(row["strength"])


def _key(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    return (*_condition(row), row["attacker"], row["metric"])


def _flat(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Setting]]:
    """Settings without paths and notes. Lists become text: trackers compare plain values."""
    for key, value in config.items():
        name = f"{above}{key}"
        if key in LOCAL or (not above and key in ("notes", "plan")):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, str):
            yield name, _public(value)
        elif isinstance(value, bool | int | float):
            yield name, value
        elif isinstance(value, list | tuple):
            yield name, _public(", ".join(map(str, value)))


def _public(text: str) -> str:
    """Files by their names alone: "onnx:/home/ann/net.onnx" is "onnx:net.onnx"."""
    return PATH.sub(r"\1", text)
