"""The summary table as reports, figures and the terminal read it: conditions in order, one value at a time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from iddmbench.results.ability import links_undefended
from iddmbench.results.metric_info import METRICS, metric
from iddmbench.results.run_folder import (
    ADAPTIVE_WHITE_BOX,
    WHITE_BOX,
    WORST_CASES,
    RunFolder,
    label,
)

UNDEFENDED, GENERIC = "none", "generic"
WIDE = 0.6
"""Width of an interval of a share from which on it says next to nothing."""
TITLES = {UNDEFENDED: "undefended", GENERIC: "generic"}


@dataclass(frozen=True)
class Condition:
    """A defense at one strength; `strength` is None for the anchors."""

    defense: str
    strength: float | None

    @property
    def label(self) -> str:
        """Folder name without a seed: "none", "iddm-0.50"."""
        return label(self.defense, self.strength)

    @property
    def title(self) -> str:
        """As shown: "undefended", "iddm 0.50"."""
        if self.strength is None:
            return TITLES.get(self.defense, self.defense)
        return f"{self.defense} {self.strength:.2f}"

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The condition's rows of any table of the run."""
        strength = frame["strength"]
        same = strength.isna() if self.strength is None else (strength - self.strength).abs() < 1e-6
        return frame[(frame["defense"] == self.defense) & same]


@dataclass(frozen=True)
class Value:
    """A figure of the summary table: value and 95 % interval (NaN where unknown), and what it rests on.

    by: of a worst case, the attacker that attains it. threshold_low, threshold_high: the figure at the ends of the calibrated
    threshold's interval; NaN where it has no threshold.
    """

    value: float
    low: float
    high: float
    images: int
    subjects: int
    missing: int
    by: str = ""
    threshold_low: float = math.nan
    threshold_high: float = math.nan

    @property
    def n(self) -> int:
        """Images behind the figure."""
        return self.images

    @property
    def known(self) -> bool:
        return math.isfinite(self.value)

    @property
    def bounded(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def says_little(self) -> bool:
        """Whether the interval is so wide that next to nothing can be concluded."""
        return self.bounded and self.high - self.low > WIDE


class Summary:
    """Look-up in a run's figures. A figure that is not there, or is NaN, is None: nothing is made up for it."""

    def __init__(self, run: RunFolder):
        self.run = run

    @cached_property
    def conditions(self) -> list[Condition]:
        """Undefended first, then each defense by strength, the generic model last; failed ones included."""
        pairs = self.run.cells[["defense", "strength"]].drop_duplicates()
        found = {
            Condition(str(d), None if math.isnan(s) else float(s)) for d, s in pairs.itertuples(index=False, name=None)
        }
        places = {UNDEFENDED: 0, GENERIC: 2}
        return sorted(
            found, key=lambda c: (places.get(c.defense, 1), c.defense, -1 if c.strength is None else c.strength)
        )

    @property
    def defenses(self) -> list[str]:
        """Names of what has a strength, sorted."""
        return sorted({c.defense for c in self.conditions if c.strength is not None})

    def curve(self, defense: str) -> list[Condition]:
        """The defense's conditions by rising strength."""
        return [c for c in self.conditions if c.defense == defense and c.strength is not None]

    @cached_property
    def attackers(self) -> list[str]:
        """In the order of the run's configuration, without the worst case."""
        found = [str(a) for a in self.run.summary["attacker"].unique() if a not in ("", *WORST_CASES)]
        order = [str(a) for a in self.run.config.get("attackers", [])]
        return sorted(found, key=lambda a: (order.index(a) if a in order else len(order), a))

    def white_box(self, condition: Condition, attacker: str) -> bool:
        """Did the defense optimize against this attacker?"""
        return self._threats.get((condition, attacker)) in (WHITE_BOX, ADAPTIVE_WHITE_BOX)

    def knows_judge(self, condition: Condition, name: str) -> bool:
        """Did the defense, or the base's training, optimize the features that this utility figure is measured in?"""
        return (condition, name) in self._known_judges

    @cached_property
    def _known_judges(self) -> set[tuple[Condition, str]]:
        rows = self.run.summary
        rows = rows[(rows["attacker"] == "") & (rows["threat"] == WHITE_BOX)]
        return {(_condition(row), str(row["metric"])) for row in rows.to_dict("records")}

    @cached_property
    def able(self) -> list[str]:
        """The attackers that link the undefended model (`iddmbench.results.ability`); all where that was not run. Of the others
        nothing can be concluded, and they are in no worst case."""
        undefended = next((c for c in self.conditions if c.defense == UNDEFENDED), None)
        generic = next((c for c in self.conditions if c.defense == GENERIC), None)
        found = []
        for name in self.attackers:
            before = self.get(undefended, "rank1_hit", name) if undefended else None
            floor = self.get(generic, "rank1_hit", name) if generic else None
            if before is None or links_undefended(before.value, before.low, floor.value if floor else None):
                found.append(name)
        return found

    def strongest(self, condition: Condition, judge: str, name: str = "r1u") -> str:
        """The attacker that attains a worst case; empty where there is none."""
        found = self.get(condition, name, judge)
        return found.by if found else ""

    def get(self, condition: Condition, name: str, attacker: str = "", policy: str = "headline") -> Value | None:
        """A figure under a policy; those that know only one policy are found under any."""
        found = self._values.get((condition, name, attacker, policy))
        if found is None and policy == "headline":
            found = self._values.get((condition, name, attacker, "")) or self._values.get(
                (condition, name, attacker, "acquired")
            )
        return found if found is not None and found.known else None

    def metrics(self, kind: str) -> list[str]:
        """Metrics of that kind ("privacy", "utility") with at least one value, in the catalogue's order."""
        present = {
            (name, "privacy" if attacker else "utility") for (_, name, attacker, _), v in self._items() if v.known
        }
        names = sorted({name for name, found in present if found == kind})
        order = [m.name for m in METRICS]
        return sorted(names, key=lambda n: (order.index(n) if n in order else len(order), n))

    def has(self, name: str) -> bool:
        """Whether some condition has a value of that utility figure."""
        return any(self.get(condition, name) for condition in self.conditions)

    def failed(self, condition: Condition) -> int:
        """Cells of the condition that did not finish."""
        return len(condition.rows(self.run.failed))

    def _items(self) -> Iterator[tuple[tuple[Condition, str, str, str], Value]]:
        return iter(self._values.items())

    @cached_property
    def _values(self) -> dict[tuple[Condition, str, str, str], Value]:
        values = {}
        for row in self.run.summary.to_dict("records"):
            key = (_condition(row), str(row["metric"]), str(row["attacker"]), str(row["policy"]))
            low, high = float(row["low"]), float(row["high"])
            counts = int(row["images"]), int(row["subjects"]), int(row["missing"])
            ends = float(row["threshold_low"]), float(row["threshold_high"])
            values[key] = Value(float(row["value"]), low, high, *counts, str(row["by"]), *ends)
        return values

    @cached_property
    def _threats(self) -> dict[tuple[Condition, str], str]:
        rows = self.run.summary.to_dict("records")
        return {(_condition(row), str(row["attacker"])): str(row["threat"]) for row in rows}


def _condition(row: dict) -> Condition:
    strength = float(row["strength"])
    return Condition(str(row["defense"]), None if math.isnan(strength) else strength)


def written(name: str, value: Value | None, interval: bool = True) -> str:
    """A figure as text: "12 % [6, 20]", "0.34 [0.30, 0.39]", "–" when there is none."""
    return "–" if value is None else figure_text(name, value.value, *((value.low, value.high) if interval else ()))


def figure_text(name: str, value: float, low: float | None = None, high: float | None = None) -> str:
    """As `written`, from numbers; an end that is None or no number leaves the interval out."""
    text = number(name, value) + (" %" if metric(name).share else "")
    if low is not None and high is not None and math.isfinite(low) and math.isfinite(high):
        text += f" [{number(name, low)}, {number(name, high)}]"
    return text


def threshold_text(name: str, value: Value | None) -> str:
    """The figure at the ends of its threshold's interval: "34–41 %"; "–" where it has no threshold."""
    if value is None or not math.isfinite(value.threshold_low):
        return "–"
    return f"{number(name, value.threshold_low)}–{number(name, value.threshold_high)} %"


def number(name: str, value: float) -> str:
    """One number in the metric's unit (per cent for rates), without the sign of the unit."""
    return per_cent(value) if metric(name).share else decimal(value)


def per_cent(share: float) -> str:
    """A share in per cent, without the sign. All and none are said only when they are meant: .9996 is ">99.9", .995 "99.5"."""
    value = round(100 * share, 6)
    if 0 < value < 1 or 99 < value < 100:
        return {"0.0": "<0.1", "100.0": ">99.9"}.get(f"{value:.1f}", f"{value:.1f}")
    return f"{value:.0f}"


def decimal(value: float) -> str:
    """A plain number; one that is no 0, 1 or -1 is not rounded to it."""
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    if text in ("0.00", "-0.00", "1.00", "-1.00") and abs(value - float(text)) > 1e-9:
        text = f"{value:.3f}"
        if text in ("0.000", "-0.000", "1.000", "-1.000"):
            text = {"0.000": "<0.001", "-0.000": ">-0.001"}.get(text) or (">0.999" if abs(value) < 1 else "1.00")
            text = f"-{text}" if value < -0.5 and not text.startswith("-") else text
    return text
