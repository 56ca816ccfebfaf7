"""Figures and contact sheet: what they show, that labels do not collide, that equal data give equal files."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.markers import CARETLEFT
from PIL import Image
from synthetic_run import write_run

from iddmbench.report.contact_sheet import LINKED, TILE, _font, _wrap, contact_sheet
from iddmbench.report.figures import color, histograms, render, short, tradeoff
from iddmbench.report.place_labels import overlap, place
from iddmbench.results.run_folder import RunFolder
from iddmbench.results.summary import Condition, Summary


@pytest.fixture(scope="module")
def run(finished_run: Path) -> RunFolder:
    return RunFolder.open(finished_run)


def test_tradeoff_draws_the_summary(run: RunFolder) -> None:
    figure = tradeoff(run)
    summary = Summary(run)
    for ax, name in zip(figure.axes, ("r1u", "psr@1e-2"), strict=True):
        curve = summary.curve("iddm")
        points = [(summary.get(c, "utility_index").value, summary.get(c, name, "worst-case").value) for c in curve]
        drawn = [line.get_xydata().tolist() for line in ax.lines]
        assert [list(p) for p in points] in drawn
        for anchor in ("none", "generic"):
            c = Condition(anchor, None)
            assert [[summary.get(c, "utility_index").value, summary.get(c, name, "worst-case").value]] in drawn
        assert {t.get_text() for t in ax.texts} == {"0.25", "0.5", "1", "undefended", "generic, at 0"}


def test_tradeoff_has_bars_for_both_intervals(run: RunFolder) -> None:
    value = Summary(run).get(Condition("iddm", 0.5), "utility_index")
    level = Summary(run).get(Condition("iddm", 0.5), "r1u", "worst-case")
    drawn = [line.get_xydata().tolist() for line in tradeoff(run).axes[0].lines]
    assert [[value.low, level.value], [value.high, level.value]] in drawn
    assert [[value.value, level.low], [value.value, level.high]] in drawn


def test_white_box_lines_are_dashed(run: RunFolder) -> None:
    ax = tradeoff(run).axes[0]
    summary = Summary(run)
    points = [
        [summary.get(c, "utility_index").value, summary.get(c, "r1u", "sface").value] for c in summary.curve("iddm")
    ]
    (line,) = [line for line in ax.lines if line.get_xydata().tolist() == points]
    assert line.is_dashed()


def test_labels_do_not_overlap(run: RunFolder) -> None:
    figure = tradeoff(run)
    renderer = figure.canvas.get_renderer()
    for ax in figure.axes:
        boxes = [t.get_window_extent(renderer).extents for t in ax.texts]
        for i, a in enumerate(boxes):
            assert all(overlap(tuple(a), tuple(b)) == 0 for b in boxes[i + 1 :])


def test_crowded_labels_are_spread() -> None:
    anchors = [(100.0 + i, 100.0) for i in range(6)]
    boxes = place(anchors, [(30, 10)] * 6, np.array(anchors), (0, 0, 300, 300), gap=8)
    assert sum(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]) == 0
    for x0, y0, x1, y1 in boxes:
        assert not any(x0 < x < x1 and y0 < y < y1 for x, y in anchors)


def test_a_label_stays_within_bounds() -> None:
    ((x0, y0, x1, y1),) = place([(199.0, 199.0)], [(40, 10)], np.empty((0, 2)), (0, 0, 200, 200), gap=8)
    assert x0 >= 0 and y0 >= 0 and x1 <= 200 and y1 <= 200


def test_figures_are_deterministic(run: RunFolder) -> None:
    for kind in ("svg", "png"):
        assert render(tradeoff(run), kind) == render(tradeoff(run), kind)


def test_svg_holds_no_date_and_no_address_to_load(run: RunFolder) -> None:
    text = render(tradeoff(run), "svg").decode()
    assert "dc:date" not in text
    assert 'href="http' not in text


def test_several_runs_in_one_figure(run: RunFolder, tmp_path: Path) -> None:
    other = write_run(tmp_path / "second", defenses=("random-noise",), subjects=("s29",), per_prompt=1, seed=1)
    figure = tradeoff(run, RunFolder.open(other))
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    assert "iddm (orl-iddm)" in texts and "random-noise (second)" in texts


def test_defenses_have_fixed_different_colors() -> None:
    assert color("iddm") != color("random-noise")
    assert color("somebody's defense") == color("somebody's defense")


def test_all_attackers_white_box_leaves_the_attackers_lines(tmp_path: Path) -> None:
    path = write_run(
        tmp_path / "run", subjects=("s29",), per_prompt=1, white_box=("dlib", "sface"), strengths=(0.5, 1.0)
    )
    figure = tradeoff(RunFolder.open(path))
    assert sum(line.is_dashed() for line in figure.axes[0].lines) >= 2
    assert not any("no finished cells" in t.get_text() for t in figure.axes[0].texts)


def test_nothing_finished(tmp_path: Path) -> None:
    failed = tuple((d, s, "s29") for d, s in (("none", None), ("generic", None), ("iddm", 1.0)))
    run = RunFolder.open(write_run(tmp_path / "run", subjects=("s29",), strengths=(1.0,), failed=failed))
    assert "no finished cells" in tradeoff(run).axes[0].texts[0].get_text()
    render(histograms(run), "png")
    assert contact_sheet(run).width > TILE


def test_names_are_text_in_figures(tmp_path: Path) -> None:
    run = RunFolder.open(
        write_run(tmp_path / "$\\frac{$", defenses=("_$\\undefined{x$",), subjects=("s29",), per_prompt=1)
    )
    render(tradeoff(run), "svg")
    render(histograms(run), "png")
    assert short("a\nb\x00" + "c" * 50) == "a b " + "c" * 27 + "…"


def test_histograms_have_a_panel_per_condition_and_attacker(run: RunFolder) -> None:
    assert len(histograms(run).axes) == 5 * 2


def test_contact_sheet_shows_the_runs_images(run: RunFolder) -> None:
    sheet = np.asarray(contact_sheet(run))
    photo = run.picture("references/s29/00.png")
    tile = np.asarray(Image.fromarray(photo).resize((TILE, TILE), Image.Resampling.LANCZOS))
    rows, columns = np.nonzero((sheet == tile[0, 0]).all(-1))
    assert any(
        np.array_equal(sheet[y : y + TILE, x : x + TILE], tile) for y, x in zip(rows, columns, strict=True) if x < 400
    )


def test_contact_sheet_marks_linked_images(tmp_path: Path) -> None:
    linked = RunFolder.open(write_run(tmp_path / "run", subjects=("s29",), per_prompt=2, strengths=(1.0,)))
    tint = tuple(int(LINKED[i : i + 2], 16) for i in (1, 3, 5))
    before = (np.asarray(contact_sheet(linked)) == tint).all(-1).sum()
    linked.__dict__["probes"] = linked.probes.assign(rank=2)
    after = (np.asarray(contact_sheet(linked)) == tint).all(-1).sum()
    assert before > after > 0  # what remains is the legend
    linked.__dict__["probes"] = linked.probes.assign(rank=1, attacker="not the strongest")
    assert (np.asarray(contact_sheet(linked)) == tint).all(-1).sum() == after


def test_contact_sheet_of_a_run_whose_images_are_gone(tmp_path: Path) -> None:
    import shutil

    path = write_run(tmp_path / "run", subjects=("s29",), per_prompt=1)
    for folder in ("images", "references", "extras"):
        shutil.rmtree(path / folder)
    assert contact_sheet(RunFolder.open(path)).height > TILE


def test_the_legend_shows_the_sign_of_the_panel(tmp_path: Path) -> None:
    """The un-personalized model: an arrow where it lies left of what is drawn, in the legend as in the panel."""
    run = RunFolder.open(write_run(tmp_path / "run", subjects=("s29",), per_prompt=1, strengths=(1.0,)))
    figure = tradeoff(run)
    legend = {t.get_text(): h.get_marker() for t, h in zip(*_entries(figure), strict=True)}
    at = Summary(run).get(Condition("generic", None), "utility_index").value
    far = at < figure.axes[0].get_xlim()[0]
    name = "generic (not personalized)" + (", left of the panel" if far else "")
    assert legend[name] == (CARETLEFT if far else "X")
    assert name in legend and len([text for text in legend if text.startswith("generic")]) == 1
    drawn = [line.get_marker() for line in figure.axes[0].lines]
    assert legend[name] in drawn


def _entries(figure):
    return figure.legends[0].get_texts(), figure.legends[0].legend_handles


def test_words_of_the_sheet_stay_within_its_columns() -> None:
    font = _font(14)
    lines = _wrap("purified-references, a-very-long-name-of-a-defense 1.00", font, 120)
    assert all(font.getlength(line) <= 120 for line in lines)
    assert "".join(lines).replace(" ", "") == "purified-references,a-very-long-name-of-a-defense1.00"
