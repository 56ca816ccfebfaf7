"""Figures of scores and ranks: CMC and DET curves by attacker, and who is left exposed. Several runs lie over each other."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, PercentFormatter
from scipy.stats import norm

from iddmbench.report.figures import GRAY, INK, MARKERS, STYLE, color, lap, short, titled
from iddmbench.report.widths import pt, scaled, width_of
from iddmbench.results import selection
from iddmbench.results.run_folder import RunFolder
from iddmbench.results.summary import GENERIC, UNDEFENDED, Condition, Summary

Series = tuple[int, Summary, Condition]
Draw = Callable[[Axes, pd.DataFrame, Series, dict[str, Any]], int]
"""Draws one line and returns the number of images behind it; 0: nothing drawn."""
DET_TICKS = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999)
CHANCE = "chance"
DASHES: tuple[Any, ...] = ((0, (1, 1.2)), (0, (3, 1.5)), (0, (6, 1.5)), "-")
"""By strength, from weakest to strongest."""


def cmc(*runs: RunFolder, width: str = "screen") -> Figure:
    """Cumulative match characteristic: share of images whose person is among the first k candidates, over k, by attacker.

    Of images in which the attacker finds a face; every curve runs to the last candidate. Lower is more private; dotted: the
    line of chance, k / identities. `width`: a name of `WIDTHS`.
    """

    def draw(ax: Axes, probes: pd.DataFrame, series: Series, style: dict[str, Any]) -> int:
        ranks = probes.loc[probes["acquired"], "rank"].to_numpy()
        if len(ranks):
            k, share = cmc_points(ranks, identities(series[1].run.probes, str(probes["attacker"].iloc[0])))
            ax.step(k, share, where="post", **style)
        return len(ranks)

    def chance(ax: Axes) -> None:
        most = max((int(np.asarray(line.get_xdata())[-1]) for line in ax.lines), default=0)
        if most:
            k = np.arange(1, most + 1)
            ax.plot(k, k / most, color=GRAY, lw=pt(1.2), ls=":", label=CHANCE, zorder=1.5)

    figure, axes = _panels(runs, draw, "candidates k", "images with the person among the first k", width, chance)
    for ax in axes:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100]))
        ax.xaxis.set_major_formatter(FixedFormatter(["1", "2", "5", "10", "20", "50", "100"]))
        ax.xaxis.set_minor_locator(FixedLocator([]))
        ax.set_xlim(left=0.95)
        ax.set_ylim(-0.03, 1.05)
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    return figure


def det(*runs: RunFolder, width: str = "screen") -> Figure:
    """Detection error trade-off of open-set search, by attacker, on normal-deviate axes (Martin et al. 1997).

    FNIR: share of images whose score to the own person is below the threshold, or that show no face. FPIR: share of the same
    images whose best score to anybody else reaches it, as if the person were not enrolled. Higher is more private. Rates are
    drawn as far as the images resolve them, from 1 / n to 1 - 1 / n. `width`: a name of `WIDTHS`.
    """
    counts: list[int] = []

    def draw(ax: Axes, probes: pd.DataFrame, series: Series, style: dict[str, Any]) -> int:
        if not probes["acquired"].any():
            return 0
        counts.append(len(probes))
        fpir, fnir = det_points(probes)
        seen = (fpir > 0) & (fpir < 1) & (fnir > 0) & (fnir < 1)
        x, y = (norm.ppf(np.where(seen, rate, np.nan)) for rate in (fpir, fnir))
        ax.plot(x, y, **style)
        return len(probes)

    figure, axes = _panels(runs, draw, "false alarms (FPIR)", "misses (FNIR) →", width)
    finest = min(0.5 / max(counts, default=100), 0.005)
    ticks = [t for t in DET_TICKS if finest < t < 1 - finest]
    places, names = norm.ppf(ticks), [f"{100 * t:g} %" for t in ticks]
    for ax in axes:
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(FixedLocator(places))
            axis.set_major_formatter(FixedFormatter(names))
        ax.set_xlim(*norm.ppf([finest, 1 - finest]))
        ax.set_ylim(*norm.ppf([finest, 1 - finest]))
    return figure


def subjects(*runs: RunFolder, width: str = "screen") -> Figure:
    """Strip plot: each subject's share of images that are not linked at rank 1, by condition and attacker.

    A dot is a subject, a bar the mean; the person with the lowest share is named where somebody is linked at all. Images
    without a face are left out. Of many conditions and attackers a part is drawn, and the rest named. `width`: a name of
    `WIDTHS`.
    """
    series, attackers, words = _drawn(runs, lines=2 * selection.LINES)
    columns = 1 if len(attackers) < 3 or len(series) > 8 or width == "column" else 2
    rows = -(-len(attackers) // columns)
    wide = columns * max(4.8, 1.1 + 0.62 * len(series))
    k = width_of(width).scale(wide)
    with matplotlib.rc_context(scaled(STYLE, k)):
        size = k * wide, k * (1.2 + 2.6 * rows + 0.3 * bool(words))
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in grid[len(attackers) :]:
            ax.remove()
        axes = grid[: len(attackers)]
        figure.suptitle("Images not linked at rank 1, by subject", x=0.01, ha="left", fontsize=pt(11))
        for ax, attacker in zip(axes, attackers, strict=True):
            for x, (order, summary, condition) in enumerate(series):
                rates = subject_rates(condition.rows(summary.run.probes), attacker)
                _strip(ax, x, rates, _tint(condition), MARKERS[order % len(MARKERS)])
            ax.set_title(short(attacker), loc="left", fontsize=pt(10))
            ax.set_ylim(-0.06, 1.06)
            ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
            ax.grid(axis="y", color="#e6e6e6", lw=pt(0.7))
            ax.set_axisbelow(True)
        names = [_name(s, several=len(runs) > 1) for s in series]
        for i, ax in enumerate(axes):
            below = names if i >= len(axes) - columns else [""] * len(names)  # the lowest of each column
            ax.set_xticks(range(len(series)), below, rotation=35, ha="right", fontsize=pt(9))
            ax.set_xlim(-0.6, len(series) - 0.4)
        if words:
            figure.supxlabel(textwrap.fill(words, int(13 * wide)), fontsize=pt(8.5))
        return figure


def identities(probes: pd.DataFrame, attacker: str) -> int:
    """How many candidates an attacker ranks: the largest rank that occurs, over all attackers that search the gallery."""
    attackers = probes["attacker"].astype(str)
    alike = [a for a in attackers.unique() if selection.searches(a)] if selection.searches(attacker) else [attacker]
    return int(probes.loc[attackers.isin(alike) & probes["acquired"], "rank"].max())


def cmc_points(ranks: np.ndarray, last: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(k, share of `ranks` <= k) for k = 1 .. the largest rank, or `last`; ranks: int [N], 1 = first candidate."""
    k = np.arange(1, max(2, int(ranks.max()), last) + 1)
    return k, (np.asarray(ranks)[None] <= k[:, None]).mean(1)


def det_points(probes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(FPIR, FNIR) at every threshold, by falling FPIR; probes without a face are misses and never alarms."""
    mated = np.where(probes["acquired"], probes["mated"], -np.inf)
    other = np.where(probes["acquired"], probes["nonmated"], -np.inf)
    taus = np.unique(np.concatenate([mated, other]))
    taus = np.append(taus[np.isfinite(taus)], np.inf)
    return (other[None] >= taus[:, None]).mean(1), (mated[None] < taus[:, None]).mean(1)


def subject_rates(probes: pd.DataFrame, attacker: str) -> pd.Series:
    """Subject -> share of images with a face that the attacker does not link at rank 1."""
    own = probes[(probes["attacker"] == attacker) & probes["acquired"]]
    return (own["rank"] != 1).groupby(own["subject"]).mean()


def _drawn(runs: Sequence[RunFolder], lines: int) -> tuple[list[Series], list[str], str]:
    """What is drawn of the runs: conditions of each run, attackers; and what is left out, in words."""
    summaries = [Summary(run) for run in runs]
    chosen = [(selection.conditions(s, selection.CONDITIONS, lines), selection.attackers(s)) for s in summaries]
    series = [(i, s, c) for i, (s, ((kept, _), _)) in enumerate(zip(summaries, chosen, strict=True)) for c in kept]
    attackers = list(dict.fromkeys(a for _, (kept, _) in chosen for a in kept)) or [""]
    return series, attackers, selection.note([words for parts in chosen for _, words in parts])


def _panels(
    runs: Sequence[RunFolder], draw: Draw, x: str, y: str, width: str, finish: Callable[[Axes], None] | None = None
) -> tuple[Figure, list[Axes]]:
    """One panel per attacker with a line per condition and run, its number of images, and one legend. Of many a part is drawn,
    and the rest named. `finish` adds to a panel that has lines."""
    series, attackers, words = _drawn(runs, selection.LINES)
    size = width_of(width)
    columns = min(size.panels, len(attackers))
    rows = -(-len(attackers) // columns)
    design = 1 + 4.3 * columns
    k = size.scale(design)
    with matplotlib.rc_context(scaled(STYLE, k)):
        figure = Figure(figsize=(k * design, k * (0.9 + 4.0 * rows)), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in grid[len(attackers) :]:
            ax.remove()
        axes = list(grid[: len(attackers)])
        handles: dict[str, Any] = {}
        for ax, attacker in zip(axes, attackers, strict=True):
            counts = []
            for one in series:
                probes = one[2].rows(one[1].run.probes)
                style = _line(one, several=len(runs) > 1)
                own = probes[probes["attacker"] == attacker]
                counts += [n] if (n := draw(ax, own, one, style)) else []
            if ax.lines and finish:
                finish(ax)
            for line in ax.lines:
                handles.setdefault(str(line.get_label()), line)
            if not ax.lines:
                ax.text(0.5, 0.5, "no scores", ha="center", transform=ax.transAxes, color=GRAY)
            known = any(s.white_box(c, attacker) for _, s, c in series)
            ax.set_title(short(attacker) + (" (white-box for some)" if known else ""), fontsize=pt(11), loc="left")
            if counts:
                few = f"{min(counts)} to " if min(counts) < max(counts) else ""
                ax.set_title(f"n = {few}{max(counts)}", fontsize=pt(8), loc="right", color=GRAY)
            ax.set_xlabel(x)
            ax.grid(color="#e6e6e6", lw=pt(0.7))
            ax.set_axisbelow(True)
        axes[0].set_ylabel(y)
        if handles:
            place: Any = "outside lower center"
            figure.legend(
                list(handles.values()),
                list(handles),
                loc=place,
                ncols=min(size.legend, len(handles)),
                frameon=False,
                fontsize=pt(9),
                handlelength=3.2,
                **titled(words, 60 * columns),
            )
        return figure, axes


def _line(series: Series, several: bool) -> dict[str, Any]:
    """Colour by defense, dashes by strength, thickness by run. At one strength each, dashes tell equal colours apart."""
    order, summary, condition = series
    curve = summary.curve(condition.defense)
    dash: Any = "-"
    if condition in curve and len(summary.conditions) > selection.CONDITIONS:
        dash = ("-", DASHES[2], DASHES[1])[min(2, lap(condition.defense))]
    elif condition in curve:
        dash = DASHES[-1 - min(len(DASHES) - 1, len(curve) - 1 - curve.index(condition))]
    return {"color": _tint(condition), "ls": dash, "lw": pt(2.2 - 0.5 * min(order, 2)), "label": _name(series, several)}


def _tint(condition: Condition) -> str:
    return {UNDEFENDED: INK, GENERIC: GRAY}.get(condition.defense) or color(condition.defense)


def _name(series: Series, several: bool) -> str:
    return short(series[2].title) + (f" ({short(series[1].run.name, 18)})" if several else "")


def _strip(ax: Axes, x: int, rates: pd.Series, tint: str, marker: str) -> None:
    if rates.empty:
        ax.text(x, 0.5, "–", ha="center", color=GRAY)
        return
    # Equal values side by side, so that every subject is seen.
    ordered = rates.sort_values()
    groups = ordered.round(6).groupby(ordered.round(6))
    place = groups.cumcount() - (groups.transform("size") - 1) / 2
    step = min(0.075, 0.7 / max(1, int(groups.size().max())))
    ax.plot(
        x + step * place,
        ordered,
        ls="",
        marker=marker,
        ms=pt(5.5),
        color=tint,
        alpha=0.75,
        mec="white",
        mew=pt(0.4),
        zorder=3,
    )
    ax.plot([x - 0.32, x + 0.32], [rates.mean()] * 2, color=tint, lw=pt(2), zorder=2)
    if ordered.iloc[0] < 1 and len(ordered) > 1 and ordered.iloc[0] < ordered.iloc[1]:
        ax.annotate(
            short(str(ordered.index[0]), 10),
            (x, ordered.iloc[0]),
            (pt(5), pt(-3)),
            textcoords="offset points",
            fontsize=pt(7.5),
            color=GRAY,
        )
