"""docs/study.md from the tables of benchmarks/study_tables.py: `python benchmarks/study_page.py` (`--check` only compares).

The words are in benchmarks/study.md.jinja; every figure comes from docs/data/study. What did not run is said to be "not run".
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pairs_by_eye import shares

from iddmbench.adaptive import parse
from iddmbench.metrics.bootstrap import mean_interval
from iddmbench.metrics.estimate import LEVEL
from iddmbench.metrics.paired import holm, paired_difference
from iddmbench.results.metric_info import CLOSENESS, INDEX, KEPT_LOOK, REALISM, USABLE
from iddmbench.results.metric_info import metric as info
from iddmbench.results.run_folder import WORST_CASE, WORST_CASE_ADAPTIVE, WORST_CASES
from iddmbench.results.summary import decimal, figure_text, per_cent
from iddmbench.seeds import Seeds

ROOT = Path(__file__).parents[1]
DATA, PAGE, TEMPLATE = ROOT / "docs" / "data" / "study", ROOT / "docs" / "study.md", "study.md.jinja"
TABLES = ("figures", "pairs", "variance", "power", "missing", "runs")
NOT_RUN, NOTHING = "not run", "–"
HIT, FACES = "rank1_hit", "face_detection_rate"
RESIMULATION, APPEARANCE = "re-simulation", "hog"
WHERE = ["dataset", "base", "setting", "defense", "variant", "strength"]
AUTHORIZED, UNAUTHORIZED = "authorized", "unauthorized"
DEFAULT, NONE = "iddm (two-surrogates)", "undefended"
RIVALS = f"{DEFAULT}, other defenses"
BASES = {"synthetic": "micro-rgb", "orl": "micro"}
"""Of the datasets, in the page's order."""
NETWORKS = "fuse:rule=squares:dlib+sface+faceres"
COLUMNS = {
    NETWORKS: "three networks, prepared and fused",
    WORST_CASE: "strongest plain",
    WORST_CASE_ADAPTIVE: "strongest, prepared ones too",
    APPEARANCE: "appearance (`hog`)",
}
JUDGED = ((WORST_CASE, HIT), (WORST_CASE_ADAPTIVE, HIT))
KEPT = tuple(("", metric) for metric in (USABLE, REALISM, KEPT_LOOK, CLOSENESS))
COMPARED = (*JUDGED, (RESIMULATION, HIT), (APPEARANCE, HIT), *KEPT)
ABLATED = ((NETWORKS, HIT), *JUDGED, (APPEARANCE, HIT), *KEPT)
"""Attacker or family, and figure. What reads texture is stronger than all networks and would hide what a part does to those."""
TEXTS = (
    *WHERE[:5],
    "attacker",
    "family",
    "by",
    "by_other",
    "judge",
    "lacking",
    "plan",
    "run",
    "defenses",
    "protocol",
    "gpu",
)
TELLING = ("dlib", "sface", "faceres", "finetune:faceres", NETWORKS, "lbph:part=inner", "gabor", "cross-post:sface")
"""Attackers of the table of other defenses."""
ORDERING = (*TELLING[:-1], "eigenfaces", APPEARANCE)
"""Attackers whose orders of the defenses are compared, where most images have a face."""
MOST, FEWEST_ORDERED = 0.5, 5
CONTROL, STRANGER = "control", "control-alike"
"""How the names of the cheating controls begin; the one that shows a stranger of the same sex and age."""
OURS_OR_PLAIN = ("iddm", CONTROL, "random-noise", "blur", "pixelate")
"""How those begin that are no method of other authors."""
SUMMED = (
    ("SFace", "sface", HIT),
    ("strongest that knows nothing of the defense", WORST_CASE, HIT),
    ("strongest, prepared for it or not", WORST_CASE_ADAPTIVE, HIT),
    ("re-simulation", RESIMULATION, HIT),
    ("what is around the face (`hog`)", APPEARANCE, HIT),
    ("*utility index*", "", INDEX),
)
SETTINGS = (
    ("none",),
    ("iddm", "two-surrogates", 1.0),
    ("iddm", "textures", 1.0),
    ("iddm-keyed", "texture", 1.0),
    ("iddm-keyed", "textures", 1.0),
)
"""Rows and columns of the summary."""
TITLES = {"none": "undefended", "generic": "not personalized", "iddm": "IDDM", "iddm-keyed": "IDDM-keyed"}
SHEETS = tuple(DATA.parents[1] / "by-eye" / part for part in ("pairs", "faces"))
SEEN = {
    "none": "undefended",
    "iddm-1.00": "IDDM, two-surrogates",
    "iddm-keyed-1.00": "IDDM-keyed, textures",
    "generic": "not personalized",
}
"""Conditions of the sheets that were told apart by eye (pairs_by_eye.py), and what they are."""
DEFAULT_TITLE = "IDDM, two-surrogates, strength 1"
FAMILIES = ("plain", "prepared", RESIMULATION, "appearance", "known posts", "cross-post")
GOAL_FACES, GOAL_INDEX, GOAL_LINKED, GOAL_ABOVE_CHANCE = 0.97, 0.9, 0.1, 0.05
"""As set before anything was measured: faces, utility index, links at rank 1 by any face attacker, and by re-simulation above
chance."""

ELSEWHERE = ("denoising_error", "photo_linf", "photo_psnr", "photo_ssim")
"""Utility figures that have a table of their own, or that few conditions can have."""

Row = dict[str, Any]


def same(a: float, b: float) -> bool:
    """Equal strengths; NaN, of a condition without one, equals itself."""
    return (math.isnan(a) and math.isnan(b)) or abs(a - b) < 1e-6


def title(row: Row) -> str:
    """ "IDDM, two-surrogates, 0.5"."""
    parts = [TITLES.get(row["defense"], f"`{row['defense']}`"), *filter(None, [row["variant"]])]
    return ", ".join(parts if math.isnan(row["strength"]) else [*parts, f"strength {row['strength']:g}"])


def points(low: float) -> str:
    """A difference of shares in points."""
    return f"{100 * low:+.0f}".replace("-", "\u2212") if math.isfinite(low) else ("\u2212∞" if low < 0 else "+∞")


def spoken(attacker: str) -> str:
    """An attacker's name; a fusion's in words that a narrow column can break."""
    how = parse(attacker)
    if how is None or how.kind != "fuse":
        return f"`{attacker}`"
    return f"fused {', '.join(f'`{base}`' for base in how.bases)}"


def p_text(p: float) -> str:
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.2g}"


def markdown(heads: Iterable[str], rows: Iterable[Iterable[str]], names: int = 1) -> str:
    """A table whose rows begin with `names` cells that say what they are. Rows without any figure are a list below it."""
    heads, all_rows = list(heads), [list(row) for row in rows]
    empty = [row for row in all_rows if NOT_RUN in row and set(row[names:]) <= {NOT_RUN, NOTHING}]
    kept = [row for row in all_rows if row not in empty]
    lines = [" | ".join(line) for line in ([heads, ["---"] * len(heads), *kept] if kept else [])]
    parts = ["\n".join(f"| {line} |" for line in lines)] if kept else []
    if empty:
        what = [", ".join(filter(None, row[:names])) for row in empty]
        parts.append(f"{NOT_RUN.capitalize()}: {'; '.join(what)}.")
    return "\n\n".join(parts)


class Study:
    """The tables as rows, and the parts of the page that are made of them."""

    def __init__(self, folder: Path = DATA):
        self.figures, self.pairs, self.variance, self.power, self.missing, self.runs = (
            read(folder / f"{name}.csv") for name in TABLES
        )
        strange = folder / "denoising.csv"  # of runs whose pictures are at hand (benchmarks/denoising_error.py)
        self.strange = read(strange) if strange.exists() else []

    # ---- single figures ----------------------------------------------------------------------------------------------

    def find(self, key: Row, attacker: str, metric: str = HIT) -> Row | None:
        """A figure of a condition; key: WHERE -> value."""
        rows = (r for r in self.figures if (r["attacker"], r["metric"]) == (attacker, metric) and matches(r, key))
        return next(rows, None)

    def resimulated(self, key: Row) -> Row | None:
        """The re-simulating attacker that links most, of those with most people."""
        found = [r for r in self.figures if (r["family"], r["metric"]) == (RESIMULATION, HIT) and matches(r, key)]
        return max(found, key=lambda r: (r["people"], r["value"]), default=None)

    def strongest(self, key: Row, judge: str) -> str:
        """ "35 % [14–64] `eigenfaces` of 4": the figure, who attains it, and of how many attackers in its run."""
        row = self.find(key, judge)
        if row is None:
            return NOT_RUN
        return f"{text(row)} {spoken(row['by'])} of {row['of']}"

    def size(self, key: Row) -> str:
        """ "24 × 3": people and seeds behind a condition's strongest plain attacker."""
        row = self.find(key, WORST_CASE)
        return f"{row['people']} × {row['seeds']}" if row else NOT_RUN

    def summary(self, dataset: str) -> str:
        """Kind of attacker x the settings that the page is about, at full strength."""
        keys, most = [self.key(dataset, *setting) for setting in SETTINGS], self.most(dataset)
        rows = [
            [
                name,
                *(
                    resimulation_text(self.resimulated(k))
                    if who == RESIMULATION
                    else text(self.find(k, who, metric), most=most)
                    for k in keys
                ),
            ]
            for name, who, metric in SUMMED
        ]
        return markdown(["linked by", *(title(key | {"strength": math.nan}) for key in keys)], rows)

    def images(self) -> str:
        """Images of one model, of the conditions that ran."""
        rows = [r for r in self.figures if r["metric"] == FACES]
        counts = sorted({round(r["images"] / (r["people"] * r["seeds"])) for r in rows})
        return " or ".join(map(str, counts)) or NOT_RUN

    def key(self, dataset: str, defense: str, variant: str = "", strength: float = math.nan) -> Row:
        """Of a condition of the headline: the authorized setting on the dataset's own base."""
        parts = (dataset, BASES[dataset.split("/")[0]], AUTHORIZED, defense, variant, strength)
        return dict(zip(WHERE, parts, strict=True))

    def value(self, dataset: str, defense: str, attacker: str, variant: str = "", strength: float = math.nan) -> str:
        """For the text: "12 % [3–30, n = 12]", or that it was not run."""
        return with_people(self.find(self.key(dataset, defense, variant, strength), attacker))

    def index(self, dataset: str, defense: str, variant: str = "") -> str:
        """For the text: the utility index at full strength."""
        return with_people(self.find(self.key(dataset, defense, variant, 1.0), "", INDEX))

    def resimulation(self, dataset: str, defense: str, variant: str = "", strength: float = math.nan) -> str:
        return resimulation_text(self.resimulated(self.key(dataset, defense, variant, strength)))

    def less(self, dataset: str, defense: str, variant: str = "") -> str:
        """For the text: points less than the default's images under the strongest attacker, prepared ones too."""
        row = self.difference_of(self.key(dataset, defense, variant, 1.0), DEFAULT, WORST_CASE_ADAPTIVE, HIT)
        return difference(row, HIT)

    def linked_more(self, dataset: str) -> str:
        """For the text: "12 of 13 are linked more often than IDDM's default [...]", of other authors' methods."""
        wanted = {"dataset": dataset, "reference": RIVALS, "attacker": WORST_CASE_ADAPTIVE, "strength": 1}
        rows = [r for r in self.pairs if all(r[column] == value for column, value in wanted.items())]
        rows = [r for r in rows if r["setting"] == AUTHORIZED and not r["defense"].startswith(OURS_OR_PLAIN)]
        if not rows:
            return NOT_RUN
        more = sum(r["value"] > 0 for r in rows)
        apart = sum(r["value"] > 0 and r["p_holm"] <= 1 - LEVEL for r in rows)
        told = f"{more} of {len(rows)} are linked more often than IDDM's default, paired over their {people_of(rows)}"
        return f"{told}; {apart or 'none'} of these differences {'is' if apart == 1 else 'are'} significant"

    def people(self, dataset: str) -> str:
        """ "up to 12 people, up to 2 seeds": most of any condition of the dataset."""
        rows = [r for r in self.figures if r["dataset"] == dataset and r["metric"] == HIT]
        if not rows:
            return "nobody yet"
        most = [max(r[what] for r in rows) for what in ("people", "seeds")]
        return f"up to {counted(most[0], 'person', 'people')}, up to {counted(most[1], 'seed')}"

    def most(self, dataset: str) -> int:
        """People behind the figures that rest on most of them."""
        return max((r["people"] for r in self.figures if r["dataset"] == dataset), default=0)

    def planned(self, suite: str, dataset: str = "") -> list[Row]:
        """The conditions that a suite plans, each once and in the page's order, as rows of `missing`."""
        return in_order(r for r in self.missing if r["suite"] == suite and dataset in ("", r["dataset"]))

    def shown(self, dataset: str) -> list[Row]:
        """The study's conditions, and beside them the control that a defense with other surroundings has to beat."""
        return in_order([*self.planned("study", dataset), self.key(dataset, STRANGER, strength=1.0)])

    def full(self, dataset: str) -> list[Row]:
        """Of `shown`, what ran at full strength, and undefended and un-personalized."""

        def ran(key: Row) -> bool:
            return key["strength"] == 1 and any(matches(row, key) for row in self.figures)

        return [key for key in self.shown(dataset) if math.isnan(key["strength"]) or ran(key)]

    # ---- tables ------------------------------------------------------------------------------------------------------

    def headline(self, dataset: str) -> str:
        heads = ["condition", "people × seeds", "strongest plain", "strongest, prepared ones too"]
        heads += ["strongest re-simulation", "**appearance** (`hog`)", "faces", "utility index"]
        rows = []
        for key in self.shown(dataset):
            cells = [self.strongest(key, judge) for judge in (WORST_CASE, WORST_CASE_ADAPTIVE)]
            cells += [resimulation_text(self.resimulated(key)), text(self.find(key, APPEARANCE))]
            ends = [text(self.find(key, "", FACES), interval=False), text(self.find(key, "", INDEX))]
            rows.append([title(key), self.size(key), *cells, *ends])
        return markdown(heads, rows)

    def attackers(self, dataset: str) -> str:
        """Attacker x condition at full strength."""
        keys = self.full(dataset)
        planned = {a for r in self.missing if r["suite"] == "study" for a in r["lacking"].split()}
        rows = [r for r in self.figures if r["dataset"] == dataset and r["setting"] == AUTHORIZED]
        kinds = {r["attacker"]: r["family"] for r in rows if r["family"] in FAMILIES}
        names = sorted(kinds, key=lambda a: (FAMILIES.index(kinds[a]), a))
        most = self.most(dataset)
        table = [[f"`{a}`", kinds[a], *(text(self.find(k, a), marks=True, most=most) for k in keys)] for a in names]
        table += [[f"`{a}`", "", *[NOT_RUN] * len(keys)] for a in sorted(planned - {*names})]
        return markdown(["attacker", "kind", *map(title, keys)], table, names=2)

    def utility(self, dataset: str) -> str:
        """Utility figure x condition at full strength, the index first."""
        keys = self.full(dataset)
        rows = [r for r in self.figures if r["dataset"] == dataset and r["family"] == "utility"]
        metrics = dict.fromkeys(r["metric"] for r in rows if r["metric"] not in ELSEWHERE)
        names = sorted(metrics, key=lambda n: n != INDEX)
        if not names:
            return f"Utility on `{dataset}`: {NOT_RUN}."
        most = self.most(dataset)
        table = [[info(n).title, *(text(self.find(k, "", n), most=most) for k in keys)] for n in names]
        version = max((r["utility_index"] for r in self.runs), default=1)
        told = f"The utility index is of version {version}; older ones are left out ([utility.md](utility.md))."
        return markdown(["figure", *map(title, keys)], table) + f"\n\n{told}"

    def errors(self, dataset: str) -> dict[str, dict[str, float]]:
        """The base's error on the pictures of each condition at full strength: title -> person -> error (1: photos)."""
        own = [r for r in self.strange if r["dataset"] == dataset and (math.isnan(r["strength"]) or r["strength"] == 1)]
        return {title(key): {r["person"]: r["value"] for r in own if matches(r, key)} for key in in_order(own)}

    def strangeness(self, dataset: str) -> str:
        """These errors, less the undefended ones and less those of IDDM's default."""
        errors = self.errors(dataset)
        if not errors:
            return f"On `{dataset}`: {NOT_RUN}."
        columns = [error_differences(errors, other) for other in (TITLES["none"], DEFAULT_TITLE)]
        rows = []
        for name, values in errors.items():
            mean = mean_interval([np.array([value]) for value in values.values()])
            shown = f"{decimal(mean.value)} [{decimal(mean.low)}–{decimal(mean.high)}]"
            rows.append([name, str(len(values)), shown, *(column.get(name, NOTHING) for column in columns)])
        return markdown(["condition", "people", "error (1: photos)", "less undefended", "less IDDM's default"], rows)

    def stranger(self, dataset: str, variant: str) -> str:
        """For the text: the error of IDDM with something changed, less the default's."""
        name = title(self.key(dataset, "iddm", variant, 1.0))
        return error_differences(self.errors(dataset), DEFAULT_TITLE).get(name, NOT_RUN)

    def compared(self, reference: str) -> str:
        """Paired differences of IDDM's presets and the keyed defense, at full strength, from a reference."""
        own = [r for r in self.pairs if r["reference"] == reference and r["defense"].startswith("iddm")]
        own = [r for r in own if r["strength"] == 1 and "=" not in r["variant"]]
        rows = []
        for key in in_order(own):
            cells = [difference(self.difference_of(key, reference, who, m), m) for who, m in COMPARED]
            rows.append([key["dataset"], title(key), *cells])
        heads = [f"{COLUMNS.get(who, who) if who else info(m).title}" for who, m in COMPARED]
        if not rows:
            return f"No pair of finished conditions yet: {NOT_RUN}."
        return markdown(["dataset", "condition", *heads], rows, names=2)

    def difference_of(self, key: Row, reference: str, who: str, metric: str) -> Row | None:
        """who: an attacker, or a family: then its attacker with the largest difference."""
        rows = [r for r in self.pairs if r["reference"] == reference and r["metric"] == metric and matches(r, key)]
        return max((r for r in rows if who in (r["attacker"], r["family"])), key=lambda r: r["value"], default=None)

    def ablations(self, dataset: str) -> str:
        """One part changed, less the default: run of the suite x figure."""
        plans = [r for r in self.missing if r["suite"] == "ablations" and r["defense"] == "iddm"]
        rows = []
        for plan in plans:
            key = self.key(dataset, "iddm", plan["variant"], 1.0)
            cells = []
            for who, metric in ABLATED:
                if plan["plan"] == "default":
                    cells.append(text(self.find(key, who, metric)))
                else:
                    cells.append(difference(self.difference_of(key, DEFAULT, who, metric), metric))
            rows.append([f"`{plan['plan']}`", plan["variant"], *cells])
        heads = [COLUMNS.get(who, who) if who else info(m).title for who, m in ABLATED]
        return markdown(["run", "changed", *heads], rows, names=2)

    def core(self, suite: str) -> str:
        """Every defense at full strength, each setting, with its paired differences from no defense and from IDDM."""
        rows = []
        for key in in_order([*self.planned(suite), *self.purified(suite)]):
            if not (math.isnan(key["strength"]) or key["strength"] == 1):
                continue
            cells = [self.size(key)]
            for judge in (WORST_CASE, WORST_CASE_ADAPTIVE):
                less = self.less_than(key, NONE, judge)
                cells += [self.strongest(key, judge), NOTHING if math.isnan(key["strength"]) else less]
            ours = key["defense"] == "iddm" or math.isnan(key["strength"])
            cells += [NOTHING if ours else self.less_than_iddm(key), text(self.find(key, APPEARANCE))]
            cells += [text(self.find(key, "", FACES), interval=False), text(self.find(key, "", INDEX))]
            rows.append([title(key), key["setting"], *cells])
        heads = ["condition", "setting", "people × seeds", "strongest plain", "less undefended"]
        heads += ["strongest, prepared ones too", "less undefended", "less IDDM", "appearance (`hog`)", "faces"]
        return markdown([*heads, "utility index"], rows, names=2)

    def purified(self, suite: str) -> list[Row]:
        """Conditions on a suite's data where an unauthorized trainer purified the photos first, whoever planned them."""
        datasets, start = {r["dataset"] for r in self.planned(suite)}, f"{UNAUTHORIZED}, "
        return in_order(r for r in self.figures if r["dataset"] in datasets and r["setting"].startswith(start))

    def less_than_iddm(self, key: Row) -> str:
        """Of the strongest attacker, prepared or not."""
        reference = DEFAULT if key["defense"].startswith("iddm") else RIVALS
        return self.less_than(key, reference, WORST_CASE_ADAPTIVE)

    def less_than(self, key: Row, reference: str, judge: str) -> str:
        """The difference of links; or that there is none because no face was left to link."""
        row, faces = self.difference_of(key, reference, judge, HIT), self.find(key, "", FACES)
        return "no faces" if row is None and faces and not faces["value"] else difference(row, HIT)

    def each(self, suite: str) -> str:
        """Every defense at full strength in the authorized setting x some attackers."""
        keys = [k for k in self.planned(suite) if k["setting"] == AUTHORIZED]
        keys = [k for k in keys if math.isnan(k["strength"]) or k["strength"] == 1]
        most = self.most(keys[0]["dataset"])
        table = [[title(k), *(text(self.find(k, a), marks=True, most=most) for a in TELLING)] for k in keys]
        return markdown(["condition", *map(spoken, TELLING)], table)

    def agreement(self, dataset: str) -> str:
        """Kendall's tau-b between attackers' orders of the defenses at full strength, controls left out."""
        values: dict[str, dict[str, float]] = {}
        for key in in_order(r for r in self.figures if r["dataset"] == dataset and r["strength"] == 1):
            plain = key["setting"] == AUTHORIZED and "=" not in key["variant"]
            faces = self.find(key, "", FACES)
            if plain and not key["defense"].startswith(CONTROL) and faces and faces["value"] >= MOST:
                found = {a: self.find(key, a) for a in ORDERING}
                values[title(key)] = {a: row["value"] for a, row in found.items() if row}
        table = pd.DataFrame.from_dict(values, orient="index").reindex(columns=[*ORDERING]).dropna()
        if len(table) < FEWEST_ORDERED:
            return f"On `{dataset}`: {NOT_RUN} with {FEWEST_ORDERED} defenses."
        tau = table.corr(method="kendall").to_numpy()
        shown = [
            ["" if i == j else decimal(value) for j, value in enumerate(row)] for i, row in enumerate(tau.tolist())
        ]
        rows = [[spoken(a), *cells] for a, cells in zip(ORDERING, shown, strict=True)]
        return f"{markdown(['', *map(spoken, ORDERING)], rows)}\n\nOver {len(table)} defenses on `{dataset}`."

    def goals(self) -> str:
        """Whether the goal was reached, by the point values."""
        rows = [[key["dataset"], title(key), *(reached(*one) for one in self.aims(key))] for key in self.aimed()]
        heads = [f"faces ≥ {per_cent(GOAL_FACES)} %", f"utility index ≥ {GOAL_INDEX:g}"]
        heads += [
            f"linked ≤ {per_cent(GOAL_LINKED)} %",
            f"re-simulation ≤ chance + {100 * GOAL_ABOVE_CHANCE:.0f} points",
        ]
        return markdown(["dataset", "condition", *heads], rows, names=2)

    def aimed(self) -> list[Row]:
        """The conditions that the goal is for."""
        return [k for dataset in BASES for k in self.planned("study", dataset) if k["strength"] == 1]

    def aims(self, key: Row) -> list[tuple[Row | None, Callable[[Row], bool]]]:
        """Figure, and whether it is good enough: faces, index, links, re-simulation."""
        return [
            (self.find(key, "", FACES), lambda r: r["value"] >= GOAL_FACES),
            (self.find(key, "", INDEX), lambda r: r["value"] >= GOAL_INDEX),
            (self.find(key, WORST_CASE_ADAPTIVE), lambda r: r["value"] <= GOAL_LINKED),
            (self.resimulated(key), lambda r: r["value"] <= r["chance"] + GOAL_ABOVE_CHANCE),
        ]

    def goal_told(self) -> str:
        """For the text: what reaches the goal, or comes nearest."""
        met = {f"{title(k)} on `{k['dataset']}`": [bool(r and f(r)) for r, f in self.aims(k)] for k in self.aimed()}
        whole = [name for name, parts in met.items() if all(parts)]
        nearly = [name for name, parts in met.items() if all(parts[:3]) and name not in whole]
        told = f"**Reached by** {'; '.join(whole)}." if whole else "**No setting reaches the whole goal**."
        return told + (f" All but re-simulation: {'; '.join(nearly)}, by point values." if nearly else "")

    def by_eye(self) -> str:
        """Trials told apart by eye, by condition: whole pictures, and the inner face alone."""
        found = [shares(folder) for folder in SHEETS]
        rows = [[name, *(f"{part[at]} of {part[at].of}" for part in found)] for at, name in SEEN.items()]
        return markdown(["condition", "whole picture", "inner face alone"], rows)

    def seen(self, condition: str) -> str:
        """For the text: trials with the inner face alone that were told apart by eye."""
        share = shares(SHEETS[-1])[condition]
        return f"{share.right} of {share.of}"

    def split(self) -> str:
        """Standard deviations by people, seeds and images."""
        rows = []
        for row in self.variance:
            name, parts = row["metric"], []
            for part in ("people", "seeds", "images"):
                share = row[f"share_{part}"]
                shown = "–" if math.isnan(row[part]) else figure_text(name, row[part])
                parts.append(shown if math.isnan(share) else f"{shown} ({per_cent(share)} %)")
            figure = info(name).title + (f", `{row['attacker']}`" if row["attacker"] else "")
            size = f"{row['subjects']} × {row['models'] / row['subjects']:.3g}"
            rows.append([row["dataset"], title(row), figure, figure_text(name, row["mean"]), *parts, size])
        if not rows:
            return f"No condition has two seeds yet: {NOT_RUN}."
        return markdown(["dataset", "condition", "figure", "mean", "people", "seeds", "images", "people × seeds"], rows)

    def widths(self) -> str:
        """Half-widths of paired intervals: a table of people x seeds for each pair of conditions."""
        if not self.power:
            return f"No pair of conditions has two seeds yet: {NOT_RUN}."
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in self.power:
            groups.setdefault((row["dataset"], title(row), row["judge"]), []).append(row)
        parts = []
        for (dataset, name, judge), rows in groups.items():
            seeds, people = sorted({r["seeds"] for r in rows}), sorted({r["people"] for r in rows})
            wide = {(r["people"], r["seeds"]): f"{100 * r['half_width']:.0f}" for r in rows}
            who = ", ".join(dict.fromkeys(f"`{rows[0][c]}`" for c in ("by", "by_other")))
            parts.append(
                f"{name} less undefended on `{dataset}`, R1-U, {COLUMNS[judge]} ({who}): half-width in points, foretold "
                f"from {counted(rows[0]['from_people'], 'person', 'people')}."
            )
            table = [[str(k), *(wide[k, s] for s in seeds)] for k in people]
            parts.append(markdown(["people", *(counted(s, "seed") for s in seeds)], table))
        return "\n\n".join(parts)

    def gaps(self) -> str:
        """By run of a suite: conditions planned, complete, in part, absent."""
        rows = []
        for suite, plan in dict.fromkeys((r["suite"], r["plan"]) for r in self.missing):
            own = [r for r in self.missing if (r["suite"], r["plan"]) == (suite, plan)]
            whole, absent = sum(map(complete, own)), sum(not r["people"] for r in own)
            rows.append([f"`{suite}`", f"`{plan}`", *map(str, (len(own), whole, len(own) - whole - absent, absent))])
        heads = ["suite", "run", "conditions planned", "complete", "with fewer people, seeds or attackers", NOT_RUN]
        return markdown(heads, rows, names=2)

    def machines(self) -> str:
        rows = []
        for r in self.runs:
            counts = [str(r[c]) for c in ("people", "seeds", "cells", "failed")]
            machine = r.get("gpu") or r["processor"]
            made = [f"{r['hours']:.2g}", r["protocol"], f"torch {r['torch']}, {machine}"]
            rows.append([f"`{r['run']}`", f"{r['dataset']}, {r['base']}", r["defenses"], *counts, *made])
        heads = [
            "run",
            "data, base",
            "defenses",
            "people",
            "seeds",
            "cells",
            "failed",
            "hours of computing",
            "protocol",
        ]
        return markdown([*heads, "with"], rows) if rows else f"No run: {NOT_RUN}."

    def total(self, what: str) -> int:
        """Conditions of all plans: "planned", "complete" or "absent"."""
        counts = {"planned": len(self.missing), "complete": sum(map(complete, self.missing))}
        return (counts | {"absent": sum(not r["people"] for r in self.missing)})[what]


def read(path: Path) -> list[Row]:
    """A table's rows; a text that is not there is "", a number NaN."""
    table = pd.read_csv(path)
    for column in table.columns.intersection([*TEXTS]):
        table[column] = table[column].astype(object).where(table[column].notna(), "").astype(str)
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def complete(row: Row) -> bool:
    """Whether a planned condition is there with all its people, seeds and attackers."""
    return all(row[what] >= row[f"planned_{what}"] for what in ("people", "seeds", "attackers"))


def matches(row: Row, key: Row) -> bool:
    return same(row["strength"], key["strength"]) and all(row[c] == key[c] for c in WHERE[:5])


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Each condition once: undefended first, not personalized last, the others as they come."""
    kept: list[Row] = []
    for row in rows:
        if not any(matches(row, other) for other in kept):
            kept.append(row)
    places = {"none": 0, "generic": 2}
    return sorted(kept, key=lambda r: (places.get(r["defense"], 1), r["setting"]))


def counted(count: float, one: str, many: str = "") -> str:
    return f"{int(count)} {one if int(count) == 1 else many or one + 's'}"


def text(row: Row | None, interval: bool = True, marks: bool = False, most: int = 0) -> str:
    """A figure with its interval; marks: * white-box, ? an attacker that links nobody undefended; and the number of people
    where that is below `most`."""
    if row is None:
        return NOT_RUN
    name = row["metric"]
    shown = figure_text(name, row["value"], *((row["low"], row["high"]) if interval else ())).replace(", ", "–")
    if marks:
        shown += ("*" if row["white_box"] else "") + ("" if row["able"] else "?")
    if row["people"] < most:
        shown += f" (n = {row['people']})"
    return shown


def with_people(row: Row | None) -> str:
    """A figure with its interval and the number of people behind it."""
    return NOT_RUN if row is None else text(row).replace("]", f", n = {row['people']}]")


def resimulation_text(row: Row | None) -> str:
    if row is None:
        return NOT_RUN
    who = row["attacker"].rsplit(":", 1)[-1]
    return f"{with_people(row)} (`{who}`; chance {per_cent(row['chance'])} %)"


def difference(row: Row | None, metric: str) -> str:
    """ "−40 [−60, −20], p 0.01": shares in points, else as they are; p after Holm; ", of 14": by the strongest of so many
    attackers that both have."""
    if row is None:
        return NOT_RUN
    if info(metric).share:
        shown = f"{points(row['value'])} [{points(row['low'])}, {points(row['high'])}]"
    else:
        low, high = (decimal(x) if math.isfinite(x) else points(x) for x in (row["low"], row["high"]))
        shown = f"{decimal(row['value'])} [{low}, {high}]"
    of = f", of {row['of']}" if row["attacker"] in WORST_CASES else ""
    return f"{shown}, p {p_text(row['p_holm'])}{of}"


def people_of(rows: Sequence[Row]) -> str:
    """ "6 people", "6 to 12 people"."""
    low, high = min(r["people"] for r in rows), max(r["people"] for r in rows)
    return f"{low} people" if low == high else f"{low} to {high} people"


def error_differences(errors: dict[str, dict[str, float]], other: str) -> dict[str, str]:
    """ "0.3 [0.2, 0.4], p 0.01": of defended conditions less another one, paired over people; p after Holm over them."""
    names = [name for name in errors if name not in (TITLES["none"], TITLES["generic"], other)]
    found = {}
    for name in names:
        shared = [person for person in errors[name] if person in errors.get(other, {})]
        if shared:
            sides = [[errors[side][person] for person in shared] for side in (name, other)]
            found[name] = paired_difference(sides[0], sides[1], Seeds(0).child("denoising", name, other).numpy())
    p_values = holm([one.p_value for one in found.values()])
    shown = {}
    for (name, one), p in zip(found.items(), p_values, strict=True):
        low, high = (decimal(x) if math.isfinite(x) else points(x) for x in (one.low, one.high))
        shown[name] = f"{decimal(one.value)} [{low}, {high}], p {p_text(math.nan if p is None else p)}"
    return shown


def reached(row: Row | None, holds: Callable[[Row], bool]) -> str:
    return NOT_RUN if row is None else f"{'yes' if holds(row) else '**no**'}: {text(row)}"


def page(folder: Path = DATA) -> str:
    """The whole page as Markdown."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    study = Study(folder)
    return environment.get_template(TEMPLATE).render(study=study, default=DEFAULT).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where the page is not what the data say"
    )
    options = parser.parse_args()
    made = page(options.data)
    if not options.check:
        options.out.write_text(made, encoding="utf-8")
    elif not options.out.is_file() or options.out.read_text(encoding="utf-8") != made:
        sys.exit(f"{options.out} is not what its data say: run python benchmarks/study_page.py")


if __name__ == "__main__":
    main()
