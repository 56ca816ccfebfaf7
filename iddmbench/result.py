"""A finished run or evaluation in Python: its figures by name, its tables as data frames, its pictures."""

import math
import shutil
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from iddmbench.errors import UserError, did_you_mean
from iddmbench.paths import user_path
from iddmbench.results.findings import lines, read_findings
from iddmbench.results.headline import headlines
from iddmbench.results.metric_info import METRICS
from iddmbench.results.run_folder import FAILURES, RunFolder, label
from iddmbench.results.summary import Condition, Summary, Value
from iddmbench.results.variance import variance_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABSENT = "absent"
"""Kind of the findings that are notes on the attackers already."""
UNMEASURED = Value(math.nan, math.nan, math.nan, 0, 0, 0)
ATTRIBUTES = {"@": "_at_", "-": "_"}
"""How metric names are written as attributes: "psr@1e-2" is `psr_at_1e_2`."""


def attribute(metric: str) -> str:
    """A metric's name as a Python attribute."""
    for old, new in ATTRIBUTES.items():
        metric = metric.replace(old, new)
    return metric


class Figures:
    """The figures of one condition under one attacker (`attacker` = "" for utility), as attributes or by name.

    `figures.r1u` is `figures["r1u"]`: a `Value` with `.value`, `.low`, `.high` (95 % interval), `.n` (images) and `.subjects`;
    all NaN, and `.known` False, if it was not measured.
    """

    def __init__(self, summary: Summary, condition: Condition, attacker: str):
        self._summary, self.condition, self.attacker = summary, condition, attacker
        kind = "privacy" if attacker else "utility"
        known = [metric.name for metric in METRICS if metric.kind == kind]
        self._names = {attribute(name): name for name in dict.fromkeys([*known, *summary.metrics(kind)])}

    def __getitem__(self, metric: str) -> Value:
        """A figure under the headline policy. Raises KeyError for an unknown metric."""
        return self.under(metric)

    def under(self, metric: str, policy: str = "headline") -> Value:
        """A figure under a policy for images without a face: "headline", "acquired", "miss" or "chance"."""
        if metric not in self._names.values():
            raise KeyError(f"no metric '{metric}' here: {did_you_mean(metric, self._names.values())}")
        return self._summary.get(self.condition, metric, self.attacker, policy) or UNMEASURED

    def __getattr__(self, name: str) -> Value:
        names = self.__dict__.get("_names", {})
        if name not in names:
            raise AttributeError(f"no figure '{name}' here: {did_you_mean(name, names)}")
        return self[names[name]]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._names]

    def __repr__(self) -> str:
        who = self.attacker or "utility"
        return f"<figures of {self.condition.label} under {who}: {', '.join(self._names.values())}>"


class Result:
    """The measurements of a run. Created by `iddmbench.run`, `iddmbench.evaluate` and `iddmbench.open_run`.

    `result["dlib"].r1u` is a figure of the strongest defended condition, `result.at("none")["dlib"].r1u`
    one of another condition.
    It prints as the table that `iddmbench run` shows, and as HTML in a notebook.

    Attributes:
        folder: the run folder behind it (`iddmbench.results.run_folder` documents its files).
    """

    def __init__(self, folder: RunFolder, condition: Condition | None = None, kept: TemporaryDirectory | None = None):
        self.folder, self._kept = folder, kept
        self._condition = condition

    @cached_property
    def _summary(self) -> Summary:
        return Summary(self.folder)

    @property
    def conditions(self) -> list[str]:
        """Labels of what was measured, undefended ("none") first: "none", "iddm-0.50", "generic"."""
        return [condition.label for condition in self._summary.conditions]

    @property
    def attackers(self) -> list[str]:
        return list(self._summary.attackers)

    @property
    def condition(self) -> Condition:
        """The condition of `result[attacker]`: by default the last defended one, at its highest strength."""
        if self._condition is not None:
            return self._condition
        known = self._summary.conditions
        defended = [condition for condition in known if condition.strength is not None]
        return (defended or known)[-1 if defended else 0]

    def at(self, label: str) -> "Result":
        """The same result for another condition. Raises KeyError if it was not measured."""
        for condition in self._summary.conditions:
            if condition.label == label:
                return Result(self.folder, condition, self._kept)
        raise KeyError(f"no condition '{label}': {did_you_mean(label, self.conditions)}")

    def __getitem__(self, attacker: str) -> Figures:
        known = {row for row in self.folder.summary["attacker"].unique() if row}
        if attacker not in known:
            raise KeyError(f"attacker '{attacker}' did not run: {did_you_mean(attacker, known)}")
        return Figures(self._summary, self.condition, attacker)

    @property
    def utility(self) -> Figures:
        """Utility figures of the condition: face detection, image quality, closeness, the index."""
        return Figures(self._summary, self.condition, "")

    def summary(self) -> pd.DataFrame:
        """Every figure, one per row: condition, attacker, threat, metric, policy, value, 95 % interval and counts.

        The columns are those of summary.parquet (docs/api.md) after `condition`, its label, and with the metric's title.
        """
        frame = self.folder.summary.copy()
        titles = {metric.name: metric.title for metric in METRICS}
        labels = {(c.defense, c.strength): c.label for c in self._summary.conditions}
        pairs = zip(frame["defense"], frame["strength"], strict=True)
        names = [labels[(d, None if pd.isna(s) else float(s))] for d, s in pairs]
        frame.insert(0, "condition", pd.Series(names, index=frame.index, dtype=str))
        frame["title"] = frame["metric"].map(titles).fillna(frame["metric"])
        return frame

    @property
    def probes(self) -> pd.DataFrame:
        """One row per image and attacker: score to the person, best score to anybody else, rank, matches."""
        return self.folder.probes

    @property
    def nearest(self) -> pd.DataFrame:
        """Of an evaluation, one row per image, attacker and place: the most alike people of the gallery, with scores."""
        return self.folder.nearest

    @property
    def images(self) -> pd.DataFrame:
        """One row per image: its quality, closeness and file."""
        return self.folder.images

    @property
    def demographics(self) -> pd.DataFrame:
        """Protection by sex, age and skin tone: one row per condition, group, attacker and metric, with its 95 % interval.

        Groups are what the dataset says, else what faceres reads in the references; empty where neither does.
        """
        return self.folder.demographics

    def variance(self) -> pd.DataFrame:
        """Standard deviations of R1-U and of utility by people, training seeds and images, and each one's share of the variance
        of the mean: one row per condition and figure. `seeds` is NaN with one seed, which is then part of `people`."""
        return variance_table([self._summary])

    @property
    def prompts(self) -> pd.DataFrame:
        """One row per condition, prompt and metric, with its 95 % interval; empty where the protocol gives none so."""
        return self.folder.prompts

    @property
    def cells(self) -> pd.DataFrame:
        return self.folder.cells

    @property
    def notes(self) -> list[str]:
        """What a reader should know about the images and photos: what was left out, copies, what could not be measured, and
        what is doubtful about the photos (results/findings.py)."""
        return notes_of(self.folder) + lines([f for f in read_findings(self.folder.path) if f.kind != ABSENT])

    @property
    def failed(self) -> pd.DataFrame:
        """The rows of `cells` that have no figures, with the error."""
        return self.folder.failed

    @property
    def headline(self) -> list[str]:
        """The findings, in sentences."""
        return headlines(self._summary)

    def plot(self, kind: str = "tradeoff", *others: "Result") -> "Figure":
        """A matplotlib figure: "tradeoff", "det", "cmc" or "subjects", others drawn over it; or "histograms"."""
        from iddmbench.report import curves, figures

        together = {"tradeoff": figures.tradeoff, "det": curves.det, "cmc": curves.cmc, "subjects": curves.subjects}
        if kind in together:
            return _displayed(together[kind](self.folder, *(other.folder for other in others)))
        if kind == "histograms" and not others:
            return _displayed(figures.histograms(self.folder))
        raise UserError(
            f"plot: no kind '{kind}' of {1 + len(others)} results: {did_you_mean(kind, [*together, 'histograms'])}"
        )

    def save(self, path: Path | str) -> "Result":
        """Copy the run folder, with figures and report, to `path`. Raises UserError if `path` is not empty."""
        target = user_path(path)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UserError(f"{target} is not empty: give another path, or remove it")
        shutil.copytree(self.folder.path, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".lock"))
        return Result(RunFolder.open(target), self._condition)

    def to_html(self, path: Path | str | None = None) -> str:
        """The report: one self-contained HTML page, also written to `path` if given."""
        from iddmbench.report.write import page_of

        text = page_of(self.folder)
        if path is not None:
            user_path(path).write_text(text, encoding="utf-8")
        return text

    def __str__(self) -> str:
        return self._printed("text")

    def __repr__(self) -> str:
        return f"<Result of {', '.join(self.conditions)} under {', '.join(self.attackers)}>"

    def _repr_html_(self) -> str:
        return self._printed("html")

    def _printed(self, form: str) -> str:
        from io import StringIO

        from rich.console import Console

        from iddmbench.report.terminal import print_summary

        console = Console(emoji=False, record=form == "html", file=StringIO(), width=120, force_jupyter=False)
        print_summary(self.folder, console, paths=self._kept is None)
        if form == "html":
            code = '<pre style="white-space:pre;overflow-x:auto;line-height:normal">{code}</pre>'
            return console.export_html(inline_styles=True, code_format=code)
        return console.file.getvalue()  # type: ignore[attr-defined]


def _displayed(figure: "Figure") -> "Figure":
    """A notebook shows it as a picture, whether or not pyplot's inline backend is there."""

    def png() -> bytes:
        from io import BytesIO

        written = BytesIO()
        figure.savefig(written, format="png")
        return written.getvalue()

    figure._repr_png_ = png  # type: ignore[attr-defined]
    return figure


def notes_of(run: RunFolder) -> list[str]:
    """Of the images: what was left out, copies, what could not be measured, attackers and images without a figure."""
    lost = [name for name in run.config.get("attackers", []) if name not in Summary(run).attackers]
    absent = {f.attacker: f.text for f in read_findings(run.path) if f.kind == ABSENT}
    failed = f"see {run.path / FAILURES}"
    without = [absent.get(name) or f"no figures of attacker '{name}': {failed}" for name in lost]
    return [str(note) for note in run.config.get("notes", [])] + without + faceless(run)


def faceless(run: RunFolder) -> list[str]:
    """A line for each condition and person with images on which no face was found."""
    found = []
    for key, rows in run.images.groupby(["defense", "strength", "subject"], dropna=False):
        defense, strength, subject = cast(tuple[str, float, str], key)
        lost = rows[~rows["detected"]]
        if len(lost):
            which = label(defense, strength)
            first = f", the first is {lost['image'].iloc[0]}"
            found.append(f"no face on {len(lost)} of {len(rows)} images of '{subject}' ({which}){first}")
    return found


def result_of(path: Path | str, **kept: Any) -> Result:
    """The result in a run folder. Raises UserError as `RunFolder.open` does."""
    return Result(RunFolder.open(user_path(path)), **kept)
