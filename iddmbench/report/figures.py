"""The figures of finished runs. They are drawn without a global state and come out byte-identical for equal data."""

import hashlib
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.markers import CARETLEFT
from matplotlib.ticker import FixedLocator, PercentFormatter

from iddmbench.report.place_labels import place
from iddmbench.report.widths import pt, scaled, width_of
from iddmbench.results import selection
from iddmbench.results.metric_info import INDEX, metric
from iddmbench.results.run_folder import WORST_CASE, WORST_CASE_ADAPTIVE, RunFolder
from iddmbench.results.summary import GENERIC, UNDEFENDED, Condition, Summary, Value

LEGEND = 30
"""Longest label, in characters, that lets four fit side by side below the trade-off."""


PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999933", "#882255", "#6A51A3", "#8C6D46")
"""Okabe and Ito's colour-blind safe colours (2008), less the yellow, which is too light for a line on white, then olive
and wine of Tol's muted scheme, a purple and a brown; where two are near for a colour-blind reader, their markers differ."""
KNOWN = (
    *("iddm", "aspl", "simac", "metacloak", "random-noise", "iddm-direct"),
    *("mist", "fsmg", "advdm", "caat", "photoguard", "cloak"),
    *("blur", "pixelate"),
    *("anti-diffusion", "apl", "apdm", "lowkey", "iddm-keyed"),
)
"""Defenses by place, which gives colour and marker: the first thirty pairs differ."""
SHAPES = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "star": "*", "triangle-down": "v"}
"""Markers, as plotly and as matplotlib name them. Two that are four apart share a colour among KNOWN: they look different."""
SYMBOLS = tuple(SHAPES)
SHAPES |= {"pentagon": "p", "triangle-right": ">"}
OWN = {
    **{"blur": "pentagon", "pixelate": "star", "apl": "square"},
    **{"apdm": "triangle-right", "iddm-keyed": "triangle-right"},
}
"""Known defenses with another marker than their place gives: in gray, or to a colour-blind reader, they would look like one
that has it. The cross and the x are the undefended and the un-personalized model's."""
INK, GRAY = "#222222", "#767676"
PRIVACY = ("r1u", "psr@1e-2")
TITLES = {"r1u": "Images not linked at rank 1 (R1-U)", "psr@1e-2": "Images not matched at FAR 1 % (PSR)"}
MARKERS = ("o", "s", "^", "D")
WHOLE = (-0.05, 1.06, -0.05, 1.06)
NEAR, CROWD, LINES = 0.7, 4, 8
"""A utility index near the undefended model's; most curves whose strengths are written, and points that need no enlarging;
most thin lines in a panel."""
DISC = np.array([(x, y) for x in np.linspace(-1, 1, 7) for y in np.linspace(-1, 1, 7) if x * x + y * y <= 1])
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def color(defense: str) -> str:
    """The defense's colour, the same in every figure."""
    return PALETTE[_place(defense) % len(PALETTE)]


def symbol(defense: str) -> str:
    """The defense's marker, as plotly names it: colours alone do not last for all defenses, nor for all readers."""
    return OWN.get(defense) or SYMBOLS[_place(defense) % len(SYMBOLS)]


def lap(defense: str) -> int:
    """How many defenses before it have its colour: 0 for the first ten known ones."""
    return _place(defense) // len(PALETTE) if defense in KNOWN else 0


def _place(defense: str) -> int:
    """Colour and marker by name: known defenses have their own, others one that follows from the name."""
    if defense in KNOWN:
        return KNOWN.index(defense)
    return int.from_bytes(hashlib.sha256(defense.encode()).digest()[:2])


@dataclass(frozen=True)
class View:
    """One row of panels: whose worst case, the part of it that is shown (x0, x1, y0, y1), and the metric across."""

    judge: str
    window: tuple[float, float, float, float] = WHOLE
    zoom: bool = False
    across: str = INDEX

    def shows(self, x: float, y: float) -> bool:
        x0, x1, y0, y1 = self.window
        return x0 <= x <= x1 and y0 <= y <= y1


def tradeoff(*runs: RunFolder, width: str = "screen", across: str = INDEX) -> Figure:
    """Privacy against utility: R1-U and PSR at FAR 1e-2 over the utility index, or over another metric of UNIT that `across`
    names, one line per defense over its strengths.

    Thick: the strongest single attacker of each condition; thin: each attacker, dashed where it is white-box, as long as they
    are few. Where adaptive attackers were run, they have a row of panels of their own, and where
    many points lie near utility 1 beside others that do not, so have these points. Points carry their strength, or in a
    crowd each curve its defense's name; bars are 95 % intervals. Several runs are overlaid; their defenses keep their colours
    and differ by marker. A figure without any value says so instead of raising. `width`: a name of `WIDTHS`; in a column the
    panels stand one above the other.
    """
    summaries, size = [Summary(run) for run in runs], width_of(width)
    design = 10.0 if size.panels > 1 else 5.4
    k = size.scale(design)
    with matplotlib.rc_context(scaled(STYLE, k)):
        panels = [m for m in PRIVACY if any(m in s.metrics("privacy") for s in summaries)] or [PRIVACY[0]]
        curves = [(i, s, d) for i, s in enumerate(summaries) for d in s.defenses]
        views = _views(summaries, panels) if across == INDEX else _views_across(summaries, across)
        columns = min(len(panels), size.panels)
        rows = len(views) * len(panels) // columns
        high = 0.7 + 4.5 * rows if columns > 1 else 1.3 + 3.9 * rows
        figure = Figure(
            figsize=(k * design, k * high),
            layout=ConstrainedLayoutEngine(w_pad=0.08 * k, h_pad=0.08 * k, wspace=0.04, hspace=0.04),
        )
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, columns, sharey="row", squeeze=False)
        axes = grid.reshape(len(views), len(panels))
        for ax in grid[:, 0]:
            ax.set_ylabel("privacy →")
        handles = _legend(curves, several=len(runs) > 1, views=views)
        words = _without_line(summaries, views, len(curves))
        labels = [str(h.get_label()) for h in handles]
        beside = 4 if max(map(len, labels)) <= LEGEND else 3
        figure.legend(
            handles=handles,
            labels=labels,
            loc="outside lower center",
            ncols=min(beside if columns > 1 else 2 if max(map(len, labels)) <= LEGEND else 1, len(handles)),
            frameon=False,
            fontsize=pt(9),
            **titled(words, 130 if columns > 1 else 65),
        )
        for row, view in zip(axes, views, strict=True):
            for ax, name in zip(row, panels, strict=True):
                _dress(ax, name, view)
                labels = [x for i, s, d in curves for x in _curve(ax, s, d, name, i, view, len(curves), len(runs) > 1)]
                labels += [x for i, s in enumerate(summaries) for x in _anchors(ax, s, name, i == 0, view)]
                if not labels:
                    ax.text(0.5, 0.5, "no finished cells to show", ha="center", transform=ax.transAxes, color=GRAY)
        # Labels are placed in pixels, so the layout must be final first.
        figure.canvas.draw()
        figure.set_layout_engine("none")
        for ax in axes.ravel():
            _write_labels(ax)
        return figure


def histograms(run: RunFolder, width: str = "screen") -> Figure:
    """Scores of the images by attacker (columns) and condition (rows): to the subject's own enrolment template, and to the
    best other identity, with the thresholds. Only images with a face have scores.

    Of many conditions and attackers a part is drawn, and the rest named (`iddmbench.results.selection`). `width`: a name of
    `WIDTHS`.
    """
    summary, size = Summary(run), width_of(width)
    attackers, without = selection.attackers(summary, {"page": 3, "column": 1}.get(width, selection.PANELS))
    attackers = attackers or [""]
    conditions, words = selection.conditions(summary, lines=2 * selection.LINES)
    wide, high = (4.2, 1.35) if len(attackers) <= 3 else (3.2, 1.2)
    design = 1.2 + wide * len(attackers)
    k = size.scale(design)
    with matplotlib.rc_context(scaled(STYLE, k)):
        figure = Figure(figsize=(k * design, k * (0.9 + high * len(conditions))), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(conditions), len(attackers), sharex="col", squeeze=False)
        for column, attacker in enumerate(attackers):
            probes = run.probes[(run.probes["attacker"] == attacker) & run.probes["acquired"]]
            scores = np.concatenate([probes["mated"], probes["nonmated"]]).astype(float)
            scores = scores[np.isfinite(scores)]
            edges = np.linspace(scores.min(), scores.max() + 1e-9, 41) if len(scores) else np.linspace(0, 1, 41)
            for row, condition in enumerate(conditions):
                _histogram(axes[row, column], summary, condition, attacker, edges)
                if column == 0:
                    axes[row, 0].set_ylabel(short(condition.title), rotation=0, ha="right", va="center")
            axes[0, column].set_title(short(attacker, 24), fontsize=pt(11), loc="left")
            plain = attacker in ("", *selection.plain(summary))
            cosine = plain and (not len(scores) or np.abs(scores).max() <= 1 + 1e-6)  # some have a score of their own
            axes[-1, column].set_xlabel("cosine similarity" if cosine else "its own score")
        handles = [
            Line2D([], [], color=PALETTE[1], lw=pt(6), alpha=0.6, label="to the person's own template"),
            Line2D([], [], color=PALETTE[0], lw=pt(6), alpha=0.6, label="to the nearest other identity"),
            Line2D([], [], color=INK, lw=pt(1), label="threshold at FAR 1 %"),
        ]
        above = titled(selection.note([words, without]), 30 + 40 * len(attackers))
        beside = 3 if len(attackers) > 1 else 1
        figure.legend(handles=handles, loc="outside lower center", ncols=beside, frameon=False, fontsize=pt(9), **above)
        return figure


def titled(words: str, width: int) -> dict[str, Any]:
    """Arguments that put a note above a legend."""
    return {"title": textwrap.fill(words, width), "title_fontsize": pt(8.5)} if words else {}


def render(figure: Figure, kind: str, dpi: int = 160) -> bytes:
    """The figure as "png", "svg" or "pdf"; no date is written, so equal figures give equal bytes."""
    metadata: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "iddmbench", "svg.fonttype": "path"}):
        figure.savefig(stream, format=kind, dpi=dpi, metadata=metadata)
    return stream.getvalue()


def short(text: str, limit: int = 32) -> str:
    """Text from a run as a figure can hold it: one line, at most `limit` characters."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _dress(ax: Axes, name: str, view: View) -> None:
    title = TITLES.get(name, metric(name).title)
    title += ", including adaptive" if view.judge == WORST_CASE_ADAPTIVE else ""
    title += ", enlarged" if view.zoom else ""
    ax.set_title(title, fontsize=pt(11), loc="left", pad=pt(10))
    x0, x1, y0, y1 = view.window
    ax.set_xlim(x0, x1)
    ax.set_ylim(y0, y1)
    for axis, low, high in ((ax.xaxis, x0, x1), (ax.yaxis, y0, y1)):
        step = 0.2 if high - low > 0.7 else 0.1 if high - low > 0.25 else 0.05
        axis.set_major_locator(FixedLocator([round(step * i, 2) for i in range(int(1 / step) + 1)]))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    cut = "" if x0 < 0 else f", from {x0:.1f}"
    ax.set_xlabel(
        f"utility index (1 = undefended{cut}) →" if view.across == INDEX else f"{metric(view.across).title} →"
    )
    ax.grid(color="#e6e6e6", lw=pt(0.7))
    ax.set_axisbelow(True)


def _views(summaries: Sequence[Summary], panels: Sequence[str]) -> list[View]:
    """The rows: the worst case, the one with adaptive attackers if there were any, and an enlarged part if it is crowded.

    Where all strengths keep utility near 1, every axis begins left of their intervals, which so end before the frame and what
    stands at it.
    """
    at = [
        (u.value, p.value, judge)
        for s in summaries
        for judge in selection.judges(s)
        for c in s.conditions
        if c.strength is not None and (u := s.get(c, INDEX))
        for name in panels
        if (p := s.get(c, name, judge))
    ]
    judges = list(dict.fromkeys(judge for s in summaries for judge in selection.judges(s)))
    if at and min(x for x, _, _ in at) >= NEAR:
        ends = [u.low if u.bounded else u.value for s in summaries for u in _utilities(s)]
        x0 = np.floor(10 * min(ends) - 0.5) / 10
        window = WHOLE if x0 <= 0.2 else (x0, *WHOLE[1:])
        return [View(judge, window) for judge in judges]
    views = [View(judge) for judge in judges]
    near = [(x, y) for x, y, judge in at if x >= NEAR and judge == WORST_CASE]
    if len(near) >= CROWD * len(panels):
        low, high = min(y for _, y in near), max(y for _, y in near)
        x0 = np.floor(10 * min(x for x, _ in near) - 0.2) / 10
        views.insert(
            1, View(WORST_CASE, (x0, 1 + 0.15 * (1 - x0), max(low - 0.08, -0.05), min(high + 0.08, 1.06)), True)
        )
    return views


def _views_across(summaries: Sequence[Summary], across: str) -> list[View]:
    """The rows where another metric is across: all of it that has a value, intervals included."""
    found = [u for s in summaries for c in s.conditions if (u := s.get(c, across))]
    ends = [end for u in found for end in ((u.low, u.high) if u.bounded else (u.value,))] or [0.0, 1.0]
    room = 0.06 * (max(ends) - min(ends)) + 0.01
    window = (min(ends) - room, max(ends) + room, *WHOLE[2:])
    judges = list(dict.fromkeys(judge for s in summaries for judge in selection.judges(s)))
    return [View(judge, window, across=across) for judge in judges]


def _utilities(summary: Summary) -> list[Value]:
    """Utility indices of the defended conditions and of the undefended one."""
    kept = [c for c in summary.conditions if c.strength is not None or c.defense == UNDEFENDED]
    return [u for c in kept if (u := summary.get(c, INDEX))]


def _thin(summary: Summary, view: View, curves: int) -> list[str]:
    """Attackers drawn with their own line, few enough to keep a panel readable, those that link most first."""
    if view.zoom:
        return []
    names = selection.plain(summary) if view.judge == WORST_CASE else selection.adaptive(summary)
    return names[: LINES // max(1, curves)]


def _without_line(summaries: Sequence[Summary], views: Sequence[View], curves: int) -> str:
    """Which attackers have no thin line, in words."""
    drawn = {name for s in summaries for view in views for name in _thin(s, view, curves)}
    left = dict.fromkeys(name for s in summaries for name in s.attackers if name not in drawn)
    if left and not drawn:
        return "Strongest attackers only; the tables list all."
    return f"Not drawn separately: {', '.join(map(short, left))}." if left else ""


def _points(
    summary: Summary, conditions: Sequence[Condition], name: str, attacker: str, across: str
) -> list[tuple[Condition, Value, Value]]:
    """(condition, utility, privacy) where both are known."""
    found = []
    for condition in conditions:
        x, y = summary.get(condition, across), summary.get(condition, name, attacker)
        if x is not None and y is not None:
            found.append((condition, x, y))
    return found


def _curve(
    ax: Axes, summary: Summary, defense: str, name: str, order: int, view: View, curves: int, several: bool
) -> list[str]:
    conditions = summary.curve(defense)
    undefended = [c for c in summary.conditions if c.defense == UNDEFENDED]
    tint, drawn = color(defense), []
    only = {summary.strongest(c, view.judge, name) for c in conditions}
    thin = _thin(summary, view, curves)
    for attacker in thin:
        # Where one attacker is the strongest throughout, the thick line is its own.
        points = _points(summary, conditions, name, attacker, view.across)
        if points and {attacker} != only:
            known = all(summary.white_box(c, attacker) for c, _, _ in points)
            x, y = [p[1].value for p in points], [p[2].value for p in points]
            dash: Any = (0, (4, 2)) if known else "-"
            ax.plot(x, y, color=tint, lw=pt(1), ls=dash, alpha=0.75, marker=".", ms=pt(4), zorder=2)
            drawn.append(attacker)
            if len(thin) > 2:
                _label(ax, (x[-1], y[-1]), short(attacker, 24), INK, small=True)
    points = _points(summary, conditions, name, view.judge, view.across)
    if not points:
        return drawn
    x, y = [p[1].value for p in points], [p[2].value for p in points]
    start = _points(summary, undefended, name, view.judge, view.across)
    if start:
        ax.plot([start[0][1].value, x[0]], [start[0][2].value, y[0]], color=tint, lw=pt(1.2), ls=":", zorder=2)
    crowded = curves > CROWD
    for _, u, p in points:
        _bars(ax, u, p, tint, crowded)
    marker = MARKERS[order % len(MARKERS)] if several else SHAPES[symbol(defense)]
    size, thick = pt(11 if marker == "*" else 7), pt(1.6 if crowded else 2.4)
    ax.plot(x, y, color=tint, lw=thick, marker=marker, ms=size, mec="white", mew=pt(0.8), zorder=4)
    for condition, u, p in points[-1:] if crowded else points:
        if view.shows(u.value, p.value):
            _label(ax, (u.value, p.value), short(defense, 20) if crowded else f"{condition.strength:g}", tint)
    return [*drawn, view.judge]


def _anchors(ax: Axes, summary: Summary, name: str, first: bool, view: View) -> list[str]:
    styles = {UNDEFENDED: ("P", INK), GENERIC: ("X", GRAY)}
    anchors = [c for c in summary.conditions if c.strength is None]
    drawn = []
    for condition, u, p in _points(summary, anchors, name, view.judge, view.across):
        marker, tint = styles.get(condition.defense, ("d", GRAY))
        x, far = u.value, _far(u, view)
        ax.plot([x], [p.value], marker=marker, color=tint, ms=pt(10), mec="white", mew=pt(0.8), ls="", zorder=5)
        if (
            far
        ):  # out of sight: an arrow at the edge says so; its utility's interval, mostly out of sight too, is not drawn
            x = view.window[0]
            ax.plot([x], [p.value], marker=CARETLEFT, color=tint, ms=pt(9), ls="", zorder=5, clip_on=False)
        else:
            _bars(ax, u, p, tint)
        if first and view.shows(x, p.value):
            text = "undefended" if condition.defense == UNDEFENDED else short(condition.defense)
            _label(ax, (x, p.value), text + (f", at {u.value:.2g}" if x > u.value else ""), tint)
        drawn.append(condition.defense)
    return drawn


def _far(utility: Value, view: View) -> bool:
    """Left of what the panel shows, so that an arrow stands for it."""
    return utility.value < view.window[0] and not view.zoom


def _bars(ax: Axes, x: Value, y: Value, tint: str, faint: bool = False) -> None:
    style: dict[str, Any] = {
        "color": tint,
        "lw": pt(0.8 if faint else 1.1),
        "alpha": 0.3 if faint else 0.55,
        "zorder": 3,
    }
    if x.bounded:
        ax.plot([x.low, x.high], [y.value, y.value], **style)
    if y.bounded:
        ax.plot([x.value, x.value], [y.low, y.high], **style)


def _label(ax: Axes, point: tuple[float, float], text: str, tint: str, small: bool = False) -> None:
    """Only noted here: `_write_labels` places all of a panel's labels together."""
    font: dict[str, Any] = {"fontsize": pt(8)} if small else {"fontsize": pt(9), "fontweight": "bold"}
    note = ax.annotate(text, point, color=tint, annotation_clip=False, zorder=6, **font)
    note.set_in_layout(False)


def _write_labels(ax: Axes) -> None:
    figure = ax.figure
    canvas = figure.canvas
    renderer = canvas.get_renderer()  # type: ignore[attr-defined]
    texts = list(ax.texts)
    notes = [t for t in texts if hasattr(t, "xy")]
    anchors = [tuple(ax.transData.transform(t.xy)) for t in notes]
    boxes = [t.get_window_extent(renderer) for t in notes]
    sizes = [(b.width + 2, b.height + 2) for b in boxes]
    obstacles = [_along(ax.transData.transform(line.get_xydata())) for line in ax.lines]
    obstacles += [np.array(a) + pt(9) * DISC for a in anchors]
    area = ax.get_window_extent(renderer)
    bounds = (area.x0, area.y0, area.x1, area.y1)
    placed = place(anchors, sizes, np.concatenate(obstacles) if obstacles else np.empty((0, 2)), bounds, gap=pt(9))
    for note, box in zip(notes, placed, strict=True):
        note.set_position(tuple(ax.transData.inverted().transform(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))))
        note.set_horizontalalignment("center")
        note.set_verticalalignment("center")
    for anchor, box in zip(anchors, placed, strict=True):
        near = np.clip(anchor[0], box[0], box[2]), np.clip(anchor[1], box[1], box[3])
        if np.hypot(near[0] - anchor[0], near[1] - anchor[1]) > pt(15):  # so far that one might wonder whose it is
            ends = ax.transData.inverted().transform([anchor, near])
            ax.plot(ends[:, 0], ends[:, 1], color=GRAY, lw=pt(0.6), zorder=1.5)


def _along(points: np.ndarray, step: float = 3.0) -> np.ndarray:
    """Points every `step` pixels along a polyline [N, 2]."""
    pieces = [points]
    for a, b in pairwise(points):
        pieces.append(a + (b - a) * np.linspace(0, 1, 1 + int(np.hypot(*(b - a)) / step))[:, None])
    return np.concatenate(pieces)


def _legend(curves: Sequence[tuple[int, Summary, str]], several: bool, views: Sequence[View]) -> list[Line2D]:
    handles, thin, known = [], False, dict[str, None]()
    for order, summary, defense in curves:
        text = short(defense) + (f" ({short(summary.run.name, 24)})" if several else "")
        marker = MARKERS[order % len(MARKERS)] if several else SHAPES[symbol(defense)]
        size: dict[str, Any] = {"lw": pt(2.4), "ms": pt(10 if marker == "*" else 7), "mec": "white"}
        handles.append(Line2D([], [], color=color(defense), marker=marker, label=text, **size))
        for view in views:
            for condition in summary.curve(defense):
                names = _thin(summary, view, len(curves))
                thin = thin or len({*names} - {summary.strongest(condition, view.judge)}) > 0
                known |= dict.fromkeys(name for name in names if summary.white_box(condition, name))
    handles.append(Line2D([], [], color=INK, lw=pt(2.4), label=_worst_case(curves)))
    if thin:
        handles.append(Line2D([], [], color=INK, lw=pt(1), label="each attacker"))
    if known:
        who = f" ({short(', '.join(known), 40)})" if len(known) <= 3 else ""
        handles.append(Line2D([], [], color=INK, lw=pt(1), ls=(0, (4, 2)), label=f"white-box attacker{who}"))
    mark: dict[str, Any] = {"ms": pt(9), "mec": "white", "ls": ""}
    handles.append(Line2D([], [], color=INK, marker="P", label="undefended", **mark))
    # The sign that the panels show: a cross, or an arrow where the model lies left of them.
    generic = [
        u for s in {id(s): s for _, s, _ in curves}.values() if (u := s.get(Condition(GENERIC, None), views[0].across))
    ]
    far = {_far(u, view) for u in generic for view in views if not view.zoom} or {False}
    for out in sorted(far):
        text = "generic (not personalized)" + (", left of the panel" if out else "")
        sign: Any = CARETLEFT if out else "X"
        handles.append(Line2D([], [], color=GRAY, marker=sign, label=text, **mark))
    return handles


def _worst_case(curves: Sequence[tuple[int, Summary, str]]) -> str:
    by = {s.strongest(c, WORST_CASE) for _, s, d in curves for c in s.curve(d)} - {""}
    names = f" ({short(', '.join(sorted(by)))})" if 0 < len(by) <= 3 else ""
    return f"strongest attacker{names}"


def _histogram(ax: Axes, summary: Summary, condition: Condition, attacker: str, edges: np.ndarray) -> None:
    probes = condition.rows(summary.run.probes)
    probes = probes[(probes["attacker"] == attacker) & probes["acquired"]]
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    if probes.empty:
        ax.text(0.5, 0.4, "no scores", ha="center", transform=ax.transAxes, color=GRAY, fontsize=pt(9))
        return
    for column, tint in (("nonmated", PALETTE[0]), ("mated", PALETTE[1])):
        ax.hist(probes[column].dropna(), bins=edges.tolist(), color=tint, alpha=0.6, histtype="stepfilled")
    calibration = summary.run.calibration
    for threshold in calibration[(calibration["attacker"] == attacker) & np.isclose(calibration["far"], 1e-2)][
        "threshold"
    ]:
        ax.axvline(threshold, color=INK, lw=pt(1))
    box = " · white-box" if summary.white_box(condition, attacker) else ""
    # Above the panel, where no bar reaches.
    ax.set_title(f"n = {len(probes)}{box}", loc="right", fontsize=pt(8), color=GRAY, pad=pt(2))
