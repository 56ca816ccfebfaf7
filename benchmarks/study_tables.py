"""The tables behind docs/study.md, from finished runs and sweeps: `python benchmarks/study_tables.py RUN-OR-SWEEP ...`

figures.csv    every figure of every condition that the page may show, with interval, counts and attacker
pairs.csv      paired differences, Holm-adjusted over the conditions of each figure
variance.csv   standard deviations by people, seeds and images, of conditions with two seeds or more
power.csv      half-width of a paired interval by number of people and seeds
missing.csv    what the suites plan, and what of it is there
runs.csv       where it was computed

They are written to docs/data/study; then `python benchmarks/study_page.py` writes the page. Of a condition that several runs
have, each attacker's figures are from the one with most images in which it ran.

With `--add`, figures of runs whose folders are no longer at hand stay: a new figure takes the place of an old one that rests on
no more models. Where the strongest of several attackers is looked for, the number of attackers decides first.
"""

import argparse
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from iddmbench.adaptive import about_faces, knows_posts, links_people, parse, simulation_of
from iddmbench.defense import DEFENSES, configure
from iddmbench.errors import UserError
from iddmbench.metrics.paired import holm, paired_difference
from iddmbench.results.metric_info import INDEX, INDEX_VERSION, INDEX_WITH_KEPT
from iddmbench.results.per_subject import UTILITY, subject_values
from iddmbench.results.run_folder import WORST_CASE, WORST_CASE_ADAPTIVE, WORST_CASES, RunFolder, runs_of
from iddmbench.results.summary import GENERIC, UNDEFENDED, Condition, Summary
from iddmbench.results.variance import attacker_of, paired_split, power_table, strongest_rows, variance_table
from iddmbench.run.config import RunConfig
from iddmbench.seeds import Seeds
from iddmbench.sweep.config import load_sweep
from iddmbench.sweep.price import people

SUITES = ("study", "orl-core", "synthetic-core", "ablations")
HIT = "rank1_hit"
PRIVACY = (HIT, "match_rate@1e-2", "fta")
JUDGES = (WORST_CASE, WORST_CASE_ADAPTIVE)
"""The worst cases that the page shows: over plain attackers, and over prepared ones too."""
REFERENCE = ("iddm", "two-surrogates")
"""What IDDM's other settings are compared with: its default."""
AGAINST_UNDEFENDED, AGAINST_DEFAULT = "undefended", "iddm (two-surrogates)"
RIVALS_AGAINST_DEFAULT = f"{AGAINST_DEFAULT}, other defenses"
"""A family of its own: whether a rival hides more than IDDM is another question than which of IDDM's settings does."""
CONTROLS = (UNDEFENDED, GENERIC)
INDICES = (INDEX, INDEX_WITH_KEPT)
WHERE = ["dataset", "base", "setting", "defense", "variant", "strength"]
RANK = ["judges", "models", "beside"]
PAIR_COLUMNS = [
    *WHERE,
    "reference",
    "family",
    "attacker",
    "by",
    "by_other",
    "metric",
    "value",
    "low",
    "high",
    "p",
    "people",
    "seeds",
    "of",
]
PAIR_COLUMNS += ["p_holm"]
SHARES = ["share_people", "share_seeds", "share_images"]
VARIANCE_COLUMNS = [
    *WHERE,
    "metric",
    "attacker",
    "mean",
    "people",
    "seeds",
    "images",
    *SHARES,
    "subjects",
    "models",
    "n",
    "of",
]
POWER_COLUMNS = [*WHERE, "judge", "by", "by_other", "from_people", "sd_people", "sd_seeds", "sd_images"]
POWER_COLUMNS += ["people", "seeds", "half_width", "of"]


@dataclass(frozen=True)
class Key:
    """What a condition is, whichever run it is in. variant: a preset's name, or the options that are not the defaults."""

    dataset: str
    base: str
    setting: str
    defense: str
    variant: str
    strength: float | None


@dataclass(frozen=True)
class Found:
    """A condition of a run. images: how many it has."""

    key: Key
    summary: Summary
    condition: Condition
    images: int
    seeds: int

    @property
    def protocol(self) -> str:
        return str(self.summary.run.config.get("protocol", {}).get("hash", ""))[:12]


def variant_of(defense: str, settings: dict[str, Any]) -> str:
    """A preset's name if it explains all options, else those that differ from the defaults ("eps=0.5"); "" for the defaults,
    and for a defense that this installation does not know."""
    if defense not in DEFENSES:
        return ""
    cls = DEFENSES.get(defense)
    own = {k: v for k, v in settings.items() if k not in ("name", "strength")}

    def whole(options: dict[str, Any]) -> dict[str, Any]:
        made = configure(cls, options)
        return {k: v for k, v in made.model_dump(mode="json").items() if k != "strength"}

    full = whole({}) | own
    for preset, options in cls.presets.items():
        if whole(options) == full:
            return "" if preset == "micro" else preset
    usual = whole({})
    changed = [f"{k}={_text(v)}" for k, v in full.items() if v != usual.get(k)]
    return ", ".join(changed)


def _text(value: Any) -> str:
    return (
        "+".join(map(str, value))
        if isinstance(value, list)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def dataset_of(config: Mapping[str, Any]) -> str:
    """ "synthetic", "synthetic/tuning": a part of a dataset is another set of people."""
    part = config.get("dataset_options", {}).get("part", "")
    return str(config["dataset"]) + ("" if part in ("", "all") else f"/{part}")


def setting_of(config: Mapping[str, Any]) -> str:
    """ "authorized", "unauthorized, jpeg-75", and what else is not as usual: conditions of two settings are not the same."""
    parts = [str(config.get("threat", "authorized")), str(config.get("purify") or "")]
    parts += ["" if config.get("personalizer", "lora") == "lora" else str(config["personalizer"])]
    for key in ("lora", "personalizer_options", "sampling"):
        parts += [f"{name}={_text(value)}" for name, value in (config.get(key) or {}).items()]
    return ", ".join(filter(None, parts))


def found_in(run: RunFolder) -> Iterator[Found]:
    """The finished conditions of a run."""
    summary, config = Summary(run), run.config
    plan = {(p["name"], p["strength"]): p for p in config.get("plan", [])}
    for condition in summary.conditions:
        strength = condition.strength
        settings = plan.get((condition.defense, strength), {})
        variant = "" if condition.defense in CONTROLS else variant_of(condition.defense, settings)
        place = dataset_of(config), str(config["base"]), setting_of(config)
        rows = condition.rows(run.images)
        if len(rows):
            key = Key(*place, condition.defense, variant, strength)
            yield Found(key, summary, condition, len(rows), rows["seed"].nunique())


def by_key(found: Iterable[Found]) -> dict[Key, list[Found]]:
    """Each condition in the runs that have it, the one with most images first; of equals, the one with most attackers."""
    grouped: dict[Key, list[Found]] = {}
    for one in found:
        grouped.setdefault(one.key, []).append(one)
    return {key: sorted(several, key=_size, reverse=True) for key, several in grouped.items()}


def _size(one: Found) -> tuple[int, int]:
    return one.images, len(one.summary.attackers)


def with_attacker(several: Sequence[Found], attacker: str) -> Found | None:
    """The first in which an attacker has a figure; for worst cases the one with most attackers, of equals the first."""
    if attacker in WORST_CASES:
        return max(several, key=lambda one: len(one.summary.attackers), default=None)
    return next((one for one in several if one.summary.get(one.condition, "rank1_hit", attacker)), None)


def family(attacker: str) -> str:
    """What kind of attacker a figure belongs to; "utility" for none."""
    if not attacker:
        return "utility"
    if attacker in WORST_CASES:
        return attacker
    if simulation_of(attacker) is not None:
        return "re-simulation"
    if not about_faces(attacker):
        return "appearance"
    if parse(attacker) is None:
        return "plain"
    if knows_posts(attacker):
        return "known posts"
    return "prepared" if links_people(attacker) else "cross-post"


def chance_of(attacker: str, summary: Summary) -> float:
    """What guessing links at rank 1 among an attacker's own candidates; NaN where the gallery is everybody's."""
    simulation = simulation_of(attacker) if attacker and attacker not in WORST_CASES else None
    if simulation is None:
        return math.nan
    everybody = max(int(summary.run.config.get("people", 0)), 2)
    return 1 / min(simulation.candidates or everybody, everybody)


def where(key: Key) -> dict[str, Any]:
    """A key as columns."""
    strength = math.nan if key.strength is None else key.strength
    return {**vars(key), "strength": strength}


def with_utility(several: Sequence[Found], metric: str) -> Found | None:
    """The first that has a utility figure; an index of another version is none."""
    known = (one for one in several if one.summary.get(one.condition, metric) is not None)
    return next((o for o in known if metric not in INDICES or o.summary.run.index_version == INDEX_VERSION), None)


def figures(conditions: dict[Key, list[Found]]) -> pd.DataFrame:
    rows = []
    for key, several in conditions.items():
        attackers = dict.fromkeys(a for one in several for a in one.summary.attackers)
        wanted = [(m, a) for a in (*JUDGES, *attackers) for m in PRIVACY]
        wanted += [(m, "") for m in dict.fromkeys(m for one in several for m in one.summary.metrics("utility"))]
        for metric, attacker in wanted:
            one = with_attacker(several, attacker) if attacker else with_utility(several, metric)
            value = one.summary.get(one.condition, metric, attacker) if one else None
            if one is None or value is None:
                continue
            summary, by = one.summary, value.by or attacker
            rows.append(
                where(key)
                | {"family": family(attacker), "attacker": attacker, "by": by, "metric": metric, "value": value.value}
                | {"low": value.low, "high": value.high, "images": value.images, "people": value.subjects}
                | {"seeds": one.seeds, "white_box": bool(by) and summary.white_box(one.condition, by)}
                | {"able": not attacker or attacker in WORST_CASES or attacker in summary.able}
                | {"chance": chance_of(attacker, summary), "run": summary.run.name}
                | {"of": len(judged_by(attacker, summary)) if attacker in WORST_CASES else 1}
            )
    return pd.DataFrame(rows)


def judged_by(judge: str, summary: Summary) -> list[str]:
    """The attackers that a worst case is over: those of its families that link the undefended models."""
    families = ("plain",) if judge == WORST_CASE else ("plain", "prepared")
    return [name for name in summary.able if family(name) in families]


def pairs(conditions: dict[Key, list[Found]]) -> pd.DataFrame:
    """Each defended condition less the undefended one and less IDDM's default at the same strength; Holm over the conditions
    that one figure (a column of a table) compares with one reference."""
    rows: list[dict[str, Any]] = []
    for key, several in conditions.items():
        if key.strength is None:
            continue
        undefended = replace(key, defense=UNDEFENDED, variant="", strength=None)
        default = replace(key, defense=REFERENCE[0], variant=REFERENCE[1])
        own = key.defense.startswith(REFERENCE[0])
        for title, other in (
            (AGAINST_UNDEFENDED, undefended),
            (AGAINST_DEFAULT if own else RIVALS_AGAINST_DEFAULT, default),
        ):
            if other in conditions and other != key:
                rows += [where(key) | {"reference": title} | row for row in differences(several, conditions[other])]
    return adjusted(pd.DataFrame(rows, columns=PAIR_COLUMNS))


def adjusted(table: pd.DataFrame) -> pd.DataFrame:
    """Pairs with `p_holm`."""
    for _, part in table.groupby(["dataset", "base", "setting", "reference", "metric", "attacker"]):
        found = holm([None if math.isnan(p) else float(p) for p in part["p"]])
        table.loc[part.index, "p_holm"] = [math.nan if p is None else p for p in found]
    return table


def differences(ones: Sequence[Found], others: Sequence[Found]) -> Iterator[dict[str, Any]]:
    """Rank-1 links by the strongest of the attackers that both have and by each of these, then utility."""
    names = [list(dict.fromkeys(a for one in several for a in one.summary.attackers)) for several in (ones, others)]
    for judge in JUDGES:
        if (both := most_judged(ones, others, judge)) is not None:
            linked = judged_of_both(*both, judge)
            by = max(linked, key=lambda a: linked[a][0]), max(linked, key=lambda a: linked[a][1])
            yield from _difference(*both, HIT, judge, by, of=len(linked))
    for attacker in (name for name in names[0] if name in names[1]):
        if (one := with_attacker(ones, attacker)) is not None:
            yield from _difference(one, partner(others, one, attacker), HIT, attacker, (attacker, attacker))
    for metric in UTILITY:
        if (one := with_utility(ones, metric)) is not None:
            known = [other for other in others if with_utility([other], metric)]
            yield from _difference(one, partner(known, one, ""), metric, "", ("", ""))


def partner(others: Sequence[Found], one: Found, attacker: str) -> Found | None:
    """The same protocol's condition to compare with: of the same run before others, then with the same seeds, then any."""
    able = [o for o in others if o.protocol == one.protocol and (not attacker or with_attacker([o], attacker))]
    return max(able, key=lambda other: closeness(one, other), default=None)


def closeness(one: Found, other: Found) -> tuple[bool, bool]:
    """By which of several conditions one is compared: of its run, with as many seeds."""
    return one.summary.run.path.resolve() == other.summary.run.path.resolve(), one.seeds == other.seeds


def most_judged(ones: Sequence[Found], others: Sequence[Found], judge: str) -> tuple[Found, Found] | None:
    """The two of one protocol that share most attackers to be judged by; of equals those with most images, then the closest.
    A run with few attackers must not stand for one with many, however many people it has."""
    both = [(a, b) for a in ones for b in others if a.protocol == b.protocol]
    ranked = [(len(judged_of_both(a, b, judge)), a.images, *closeness(a, b)) for a, b in both]
    best = max(range(len(both)), key=lambda i: ranked[i], default=-1)
    return both[best] if best >= 0 and ranked[best][0] else None


def judged_of_both(one: Found, other: Found, judge: str) -> dict[str, tuple[float, float]]:
    """The attackers of a worst case that both have a figure of and that link the undefended models of both -> these figures."""
    names = [a for a in judged_by(judge, one.summary) if a in other.summary.able]
    values = {a: (_hit(one, a), _hit(other, a)) for a in names}
    return {a: (x, y) for a, (x, y) in values.items() if x is not None and y is not None}


def _hit(side: Found, attacker: str) -> float | None:
    found = side.summary.get(side.condition, HIT, attacker)
    return found.value if found else None


def _difference(
    one: Found, other: Found | None, metric: str, judge: str, by: tuple[str, str], of: int = 1
) -> Iterator[dict[str, Any]]:
    if other is None:
        return
    sides = list(zip((one, other), by, strict=True))
    if any(s.summary.get(s.condition, metric, name) is None for s, name in sides):
        return
    values = [subject_values(s.summary, s.condition, metric, name) for s, name in sides]
    shared = [subject for subject in values[0] if subject in values[1]]
    if not shared:
        return
    a, b = ([value[subject] for subject in shared] for value in values)
    found = paired_difference(a, b, Seeds(0).child("paired", one.condition.label, other.condition.label).numpy())
    p = math.nan if found.p_value is None else found.p_value
    who = {"family": family(judge), "attacker": judge, "by": by[0], "by_other": by[1], "metric": metric}
    counts = {"people": found.subjects, "seeds": min(one.seeds, other.seeds), "of": of}
    yield who | {"value": found.value, "low": found.low, "high": found.high, "p": p} | counts


def most_seeds(several: Sequence[Found]) -> Found:
    """The one with most seeds; of these, with most attackers, then with most images."""
    return max(several, key=lambda one: (one.seeds, len(one.summary.able), one.images))


def variances(conditions: dict[Key, list[Found]]) -> pd.DataFrame:
    """Of conditions with two seeds or more: `variance_table` of the strongest attackers and of utility."""
    rows = []
    for key, several in conditions.items():
        if (one := most_seeds(several)).seeds > 1:
            table = strongest_rows(one.summary, variance_table([one.summary]))
            of = {"of": len(one.summary.able)}
            rows += [row | where(key) | of for row in one.condition.rows(table).to_dict("records")]
    return pd.DataFrame(rows, columns=VARIANCE_COLUMNS)


def powers(conditions: dict[Key, list[Found]]) -> pd.DataFrame:
    """By dataset, of IDDM and the keyed defense at full strength less the undefended model: R1-U by the strongest attackers."""
    rows = []
    for key, several in conditions.items():
        others = conditions.get(replace(key, defense=UNDEFENDED, variant="", strength=None))
        one = most_seeds(several)
        wanted = key.defense.startswith(REFERENCE[0]) and key.strength == 1 and one.seeds > 1
        other = partner(others or [], one, "")
        if not wanted or other is None:
            continue
        for judge in JUDGES:
            by = [attacker_of(side.summary, side.condition, judge) for side in (one, other)]
            if not all(by):
                continue
            sides = ([one.summary], one.condition), ([other.summary], other.condition)
            try:
                split = paired_split(*sides, attackers=(by[0], by[1]))
            except UserError:  # other seeds or prompts: no image in common
                continue
            if math.isnan(split.people):
                continue
            known = {"judge": judge, "by": by[0], "by_other": by[1], "from_people": split.counts[0]}
            known |= {"of": len(judged_of_both(one, other, judge))}
            known |= {f"sd_{part}": math.sqrt(getattr(split, part)) for part in ("people", "seeds", "images")}
            table = power_table(split)
            rows += [
                where(key) | known | {"people": k, "seeds": s, "half_width": table.loc[k, s]}
                for k in table.index
                for s in table.columns
            ]
    return pd.DataFrame(rows, columns=POWER_COLUMNS)


def missing(table: pd.DataFrame, suites: Sequence[str] = SUITES) -> pd.DataFrame:
    """One row for each condition that a suite plans: what it plans, and what of it is in `table` (as `figures` makes it)."""
    rows = []
    for suite in suites:
        for name, config in load_sweep(suite, check=False).runs.items():
            for key in planned(config):
                own = table[_same(table, key) & (table["metric"] == "rank1_hit")] if len(table) else table
                there = set(own["attacker"]) if len(own) else set()
                lacking = [a for a in config.attackers if a not in there]
                rows.append(
                    {"suite": suite, "plan": name, **where(key), "planned_people": people(config)}
                    | {"planned_seeds": len(config.seeds), "planned_attackers": len(config.attackers)}
                    | {"people": int(own["people"].max()) if len(own) else 0}
                    | {"seeds": int(own["seeds"].max()) if len(own) else 0}
                    | {"attackers": len(config.attackers) - len(lacking), "lacking": " ".join(lacking)}
                )
    return pd.DataFrame(rows)


def planned(config: RunConfig) -> Iterator[Key]:
    settings = config.model_dump(mode="json")
    for defense in config.plan():
        control = defense.name in CONTROLS
        variant = "" if control else variant_of(defense.name, defense.settings())
        strength = None if control else defense.strength
        yield Key(dataset_of(settings), config.base, setting_of(settings), defense.name, variant, strength)


def _same(table: pd.DataFrame, key: Key) -> pd.Series:
    strength = table["strength"].isna() if key.strength is None else (table["strength"] - key.strength).abs() < 1e-6
    same = strength
    for column in ("dataset", "base", "setting", "defense", "variant"):
        same = same & (table[column] == getattr(key, column))
    return same


def runs_table(runs: Sequence[RunFolder]) -> pd.DataFrame:
    rows = []
    for run in runs:
        config, environment = run.config, run.environment
        packages = environment.get("packages", {})
        rows.append(
            {
                "run": run.name,
                "dataset": dataset_of(config),
                "base": config.get("base"),
                "setting": setting_of(config),
            }
            | {"defenses": " ".join(config.get("defenses", [])), "people": len(config.get("subjects", []))}
            | {"seeds": " ".join(map(str, config.get("seeds", []))), "attackers": " ".join(config.get("attackers", []))}
            | {"cells": len(run.cells), "failed": len(run.failed), "hours": round(run.cells["seconds"].sum() / 3600, 2)}
            | {"protocol": str(config.get("protocol", {}).get("hash", ""))[:12], "iddmbench": config.get("iddmbench")}
            | {"torch": packages.get("torch", ""), "processor": environment.get("processor", "")}
            | {"utility_index": run.index_version, "gpu": environment.get("gpu") or ""}
        )
    return pd.DataFrame(rows)


def added(old: Mapping[str, pd.DataFrame], new: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Old tables, as read from files, and new ones as one; runs of which no figure is left are dropped.

    Raises UserError where an old run has a new one's name.
    """
    if both := sorted({*old["runs"]["run"]} & {*new["runs"]["run"]}):
        raise UserError(f"the tables already hold runs of these names: {', '.join(both)}: rename the folders")
    old, new = (
        {
            **tables,
            "figures": ranked(tables["figures"]),
            "pairs": tables["pairs"].assign(behind=models),
            "variance": tables["variance"].assign(behind=most_models),
        }
        for tables in (old, new)
    )
    size = {"figures": RANK, "pairs": ["of", "behind"], "variance": ["of", "behind"], "power": ["of", "from_people"]}
    same = {
        "figures": ["attacker", "metric"],
        "pairs": ["reference", "attacker", "metric"],
        "variance": [],
        "power": ["judge"],
    }
    tables = {name: larger(old[name], new[name], [*WHERE, *same[name]], size[name]) for name in size}
    tables["figures"] = tables["figures"].drop(columns=RANK)
    tables |= {name: tables[name].drop(columns="behind") for name in ("pairs", "variance")}
    runs = pd.concat([old["runs"], new["runs"]], ignore_index=True)
    kept = runs["run"].isin(tables["figures"]["run"])
    return {**tables, "pairs": adjusted(tables["pairs"]), "runs": runs[kept]}


def ranked(figures: pd.DataFrame) -> pd.DataFrame:
    """With the columns of RANK, by which a figure takes another's place: a worst case by its attackers, then by its models; any
    other by its models, then by the attackers beside it."""
    worst = figures["attacker"].isin(WORST_CASES)
    judges = figures["of"].where(worst, 0)
    beside = figures.groupby([*WHERE, "run"], dropna=False)["attacker"].transform("nunique")
    return figures.assign(judges=judges, models=models(figures), beside=beside)


def models(table: pd.DataFrame) -> pd.Series:
    """How many models stand behind a row."""
    return table["people"] * table["seeds"]


def most_models(variance: pd.DataFrame) -> pd.Series:
    """Of each row's condition: a figure that some models lack is replaced together with the others."""
    return variance.groupby(WHERE, dropna=False)["models"].transform("max")


def larger(old: pd.DataFrame, new: pd.DataFrame, by: list[str], size: list[str]) -> pd.DataFrame:
    """All rows, but where both tables have rows with equal `by`, only those of the table whose `size` is larger (column by
    column); of equal ones the new."""
    both = pd.concat([old.assign(new=False), new.assign(new=True)], ignore_index=True)
    text = both.select_dtypes(exclude=["number", "bool"]).columns
    both[text] = both[text].fillna("")  # an empty text is NaN in a file
    groups = [both[column] for column in by]
    order = both.groupby(size, dropna=False).ngroup()
    most = order == order.groupby(groups, sort=False, dropna=False).transform("max")
    newest = (both["new"] & most).groupby(groups, sort=False, dropna=False).transform("any")
    return both[most & (both["new"] == newest)].drop(columns="new")


def write(runs: Sequence[RunFolder], out: Path, suites: Sequence[str] = SUITES, add: bool = False) -> None:
    """All tables into `out`.

    add: keep what its tables hold of other runs. Raises UserError where one of those has a new run's name.
    """
    conditions = by_key(one for run in runs for one in found_in(run))
    tables = {
        "figures": figures(conditions),
        "pairs": pairs(conditions),
        "variance": variances(conditions),
        "power": powers(conditions),
        "runs": runs_table(runs),
    }
    if add:
        tables = added({name: pd.read_csv(out / f"{name}.csv") for name in tables}, tables)
    tables["missing"] = missing(tables["figures"], suites)
    out.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.items():
        frame.to_csv(out / f"{name}.csv", index=False, float_format="%.5g", lineterminator="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, or folders of sweeps")
    parser.add_argument("--add", action="store_true", help="keep the figures of other runs that the tables hold")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "data" / "study")
    options = parser.parse_args()
    write([RunFolder.open(run) for path in options.runs for run in runs_of(path)], options.out, add=options.add)


if __name__ == "__main__":
    main()
