"""Large runs: figures and report draw a readable part, name the rest, and say nothing twice."""

import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from skimage.color import deltaE_ciede2000, rgb2lab
from synthetic_run import write_run

from iddmbench.defense import DEFENSES as SHIPPED
from iddmbench.report.contact_sheet import GAP, SPACE, TILE, contact_sheet
from iddmbench.report.curves import cmc, det, subjects
from iddmbench.report.figures import KNOWN, LINES, SHAPES, color, histograms, symbol, tradeoff
from iddmbench.report.page import MANY, Drawings, privacy_table, report, subject_table
from iddmbench.report.place_labels import overlap
from iddmbench.report.terminal import print_summary
from iddmbench.results import selection
from iddmbench.results.headline import headlines
from iddmbench.results.run_folder import WORST_CASE, WORST_CASE_ADAPTIVE, RunFolder
from iddmbench.results.summary import Condition, Summary

DEFENSES = KNOWN[:5] + KNOWN[6:14]
PLAIN = ("dlib", "sface", "lbph", "eigenfaces")
ADAPTIVE = ("purify:dlib", "purify:sface", "finetune:dlib", "finetune:sface", "likelihood:dlib", "threshold:dlib")
ADAPTIVE += ("threshold:sface", "fuse:dlib+sface", "cross-post:sface", "enrol-generated:dlib")
FEW = ("s29", "s30", "s31")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    path = tmp_path_factory.mktemp("runs") / "large"
    parts = {"defenses": DEFENSES, "strengths": (0.5, 1.0), "subjects": FEW, "attackers": PLAIN + ADAPTIVE}
    return RunFolder.open(write_run(path, **parts, per_prompt=2, vary=True))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    path = tmp_path_factory.mktemp("runs") / "one"
    return RunFolder.open(write_run(path, subjects=FEW, attackers=PLAIN + ADAPTIVE, per_prompt=2))


def wide(ax) -> list:
    return [line for line in ax.lines if line.get_linewidth() > 1.5 and len(line.get_xdata()) > 1]


def test_many_defenses_are_named_where_they_end(large: RunFolder) -> None:
    figure = tradeoff(large)
    summary = Summary(large)
    for ax, judge in ((figure.axes[0], WORST_CASE), (figure.axes[-2], WORST_CASE_ADAPTIVE)):
        names = [t.get_text() for t in ax.texts]
        assert sorted(names) == sorted([*DEFENSES, "undefended", "generic"])
        assert len(wide(ax)) == len(DEFENSES), "one line a defense"
        ends = {tuple(line.get_xydata()[-1]) for line in wide(ax)}
        for defense in DEFENSES:
            c = Condition(defense, 1.0)
            assert (summary.get(c, "utility_index").value, summary.get(c, "r1u", judge).value) in ends
        thin = [line for line in ax.lines if line.get_marker() == "."]
        assert not thin, "a line for each of 13 x 14 would be a thicket"
    assert "Strongest attackers only" in figure.legends[0].get_title().get_text()


def test_names_in_a_crowd_do_not_overlap(large: RunFolder) -> None:
    figure = tradeoff(large)
    renderer = figure.canvas.get_renderer()
    for ax in figure.axes:
        boxes = [tuple(t.get_window_extent(renderer).extents) for t in ax.texts]
        assert all(overlap(a, b) == 0 for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_a_part_near_the_undefended_model_is_enlarged(large: RunFolder, one: RunFolder, finished_run: Path) -> None:
    titles = [ax.get_title(loc="left") for ax in tradeoff(large).axes]
    assert sum("enlarged" in t for t in titles) == 2 and len(titles) == 6
    limits = [ax.get_xlim()[0] for ax in tradeoff(large).axes]
    assert limits[0] < 0 < limits[2] and limits[4] < 0
    # All strengths keep utility: each axis begins there, and says so; what lies outside is an arrow with its place.
    for run in (one, RunFolder.open(finished_run)):
        for ax in tradeoff(run).axes:
            assert ax.get_xlim()[0] == pytest.approx(0.6) and "from 0.6" in ax.get_xlabel()
            assert "generic, at 0" in [t.get_text() for t in ax.texts]


def test_adaptive_attackers_have_panels_of_their_own(one: RunFolder) -> None:
    figure = tradeoff(one)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert len(titles) == 4 and sum("adaptive" in t for t in titles) == 2
    first, second = ({t.get_text() for t in figure.axes[i].texts} for i in (0, 2))
    assert set(PLAIN) <= first and not first & set(ADAPTIVE)
    assert len(second & set(ADAPTIVE)) == LINES and not second & set(PLAIN)
    left = [a for a in ADAPTIVE if a not in second]
    assert left and figure.legends[0].get_title().get_text() == f"Not drawn separately: {', '.join(left)}."


def test_one_strength_and_few_attackers_of_many(large: RunFolder) -> None:
    summary = Summary(large)
    drawn, words = selection.conditions(summary)
    assert [c.strength for c in drawn] == [None, *[1.0] * selection.LINES, None]
    linked = {d: summary.get(Condition(d, 1.0), "rank1_hit", WORST_CASE_ADAPTIVE).value for d in DEFENSES}
    left = [d for d in DEFENSES if d not in {c.defense for c in drawn}]
    assert len(left) == len(DEFENSES) - selection.LINES and all(d in words for d in left)
    assert min(linked[d] for d in left) >= max(linked[c.defense] for c in drawn if c.strength), (
        "those that protect least"
    )
    attackers, words = selection.attackers(summary)
    assert attackers[:4] == list(PLAIN) and len(attackers) == selection.PANELS
    assert all(a in words for a in ADAPTIVE if a not in attackers)
    for figure, lines in ((cmc(large), selection.LINES + 3), (det(large), selection.LINES + 2)):  # CMC: chance too
        assert len(figure.axes) == selection.PANELS
        assert {len(ax.lines) for ax in figure.axes} == {lines}
        styles = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
        assert len(styles) == lines, "no two lines look alike"
    assert len(histograms(large).axes) == selection.PANELS * (len(DEFENSES) + 2)
    assert len(subjects(large).axes) == selection.PANELS
    sheet = contact_sheet(large)
    assert sheet.width < (len(DEFENSES) + 6) * (TILE + GAP + SPACE), "one column a defense"


def test_small_runs_are_drawn_whole(finished_run: Path) -> None:
    summary = Summary(RunFolder.open(finished_run))
    assert selection.conditions(summary) == (summary.conditions, "")
    assert selection.attackers(summary) == (["dlib", "sface"], "")
    assert selection.note(["", ""]) == "" and selection.note(["a b", "", "c", "a b"]) == "A b; c."


def test_equal_colours_have_other_markers() -> None:
    looks = [(color(d), symbol(d)) for d in KNOWN]
    assert len(set(looks)) == len(KNOWN)
    alike = [{"square", "diamond"}, {"triangle-up", "triangle-down"}, {"circle", "square"}]
    alike += [{"pentagon", "circle"}, {"pentagon", "square"}]
    alike += [{"triangle-right", "triangle-up"}, {"triangle-right", "triangle-down"}]
    for i, (tint, mark) in enumerate(looks):
        assert not any(tint == other and {mark, its} in alike for other, its in looks[i + 1 :])
    assert set(SHAPES) == set(map(symbol, KNOWN))


def test_equal_markers_are_told_apart_in_gray() -> None:
    """By lightness: 9 units of CIELAB's L* and more, about four times what a reader just sees side by side."""

    def light(tint: str) -> float:
        return float(rgb2lab(np.array([int(tint[i : i + 2], 16) for i in (1, 3, 5)]) / 255)[0])

    for i, one in enumerate(KNOWN):
        for other in KNOWN[:i]:
            if symbol(one) == symbol(other):
                assert abs(light(color(one)) - light(color(other))) >= 9, (one, other)


def test_every_shipped_defense_has_a_look_of_its_own() -> None:
    """But for the anchors, which have no curve, photos that somebody protected by whatever means, and controls that cheat,
    which nobody plots among defenses: theirs follows from the name, as a stranger's does."""
    classes = {name: SHIPPED.get(name) for name in SHIPPED.names()}
    shipped = {n for n, c in classes.items() if c.__module__.startswith("iddmbench.defenses.") and not c.anchor}
    shipped -= {name for name in shipped if name.startswith("control-")}
    assert shipped - {"protected-photos"} <= set(KNOWN) and "iddm-keyed" in shipped


def test_equal_markers_have_colours_that_colour_blind_readers_tell_apart() -> None:
    """CIEDE2000 of 10 and more under simulated protanopia and deuteranopia (Machado et al. 2009), on linear light."""
    protan = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    deutan = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]

    def seen(tint: str, matrix: np.ndarray) -> np.ndarray:
        light = np.array([int(tint[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = matrix @ np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
        linear = linear.clip(0, 1)
        return rgb2lab(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))

    for matrix in (np.eye(3), np.array(protan), np.array(deutan)):
        for i, one in enumerate(KNOWN):
            for other in KNOWN[:i]:
                if symbol(one) == symbol(other):
                    apart = deltaE_ciede2000(seen(color(one), matrix), seen(color(other), matrix))
                    assert apart >= 10, (one, other)


def test_what_stands_beside_the_worst_cases(one: RunFolder, tmp_path: Path) -> None:
    assert selection.beside(Summary(one)) == ["worst-case-transfer", "union", "union-adaptive"]
    run = RunFolder.open(write_run(tmp_path / "run", subjects=FEW, attackers=("dlib",), white_box=(), per_prompt=1))
    assert selection.beside(Summary(run)) == [], "one attacker, nobody's surrogate: it is all that there is"


def test_the_report_says_nothing_twice(finished_run: Path, one: RunFolder) -> None:
    """Without adaptive attackers the strongest with them is the other."""
    plain, both = (privacy_table(Summary(r), Summary(r).attackers) for r in (RunFolder.open(finished_run), one))
    assert not any("adaptive" in row[1] for row in plain.rows)
    assert sum(row[1].startswith("strongest, including adaptive: ") for row in both.rows) == len(
        Summary(one).conditions
    )
    names = [row[1].partition(":")[0] for row in plain.rows[:5]]
    assert names == ["dlib", "sface", "strongest", "strongest not white-box", "any of them (no single attacker)"]
    assert selection.judges(Summary(one)) == [WORST_CASE, WORST_CASE_ADAPTIVE]


def test_a_large_report_stays_readable(large: RunFolder) -> None:
    html = report(large, Drawings(b"", b"", b"", b""))
    open_part = re.sub(r"<details>.*?</details>", "", html, flags=re.DOTALL)
    for table in re.findall(r"<tbody>.*?</tbody>", open_part, re.DOTALL):
        assert table.count("<tr") <= MANY
        assert all(row.count("<td") <= 16 for row in table.split("<tr")[1:])
    assert len(html) < 1_500_000 and "summary.parquet" in open_part
    assert "13 defenses on orl" in html
    for attacker in ADAPTIVE:
        assert attacker in html
    sentences = headlines(Summary(large))
    assert len(sentences) == 5 and max(map(len, sentences)) < 500
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    print_summary(large, console)
    assert console.export_text().count("\n") < 140


def test_headlines_of_many_name_the_ends(large: RunFolder) -> None:
    summary = Summary(large)
    linked = {d: summary.get(Condition(d, 1.0), "rank1_hit", WORST_CASE).value for d in DEFENSES}
    first = headlines(summary)[0]
    best, worst = min(linked, key=lambda d: linked[d]), max(linked, key=lambda d: linked[d])
    assert f"with {best} " in first and f"with {worst} " in first and "the fewest of 13 defenses" in first


def test_subjects_are_the_columns_of_a_large_run(large: RunFolder) -> None:
    """Linked by the strongest attacker of the condition, against a count image by image."""
    table = subject_table(Summary(large))
    assert table.columns == ["Condition", "Linked by", *FEW]
    (row,) = [r for r in table.rows if r[0] == "iddm 1.00" and r[1].startswith("strongest: ")]
    own = Condition("iddm", 1.0).rows(large.probes)
    own = own[(own["subject"] == "s29") & (own["attacker"] == row[1].removeprefix("strongest: "))]
    linked, lost = (own["rank"] == 1).sum(), (~own["acquired"]).sum()
    assert row[2] == f"{linked} / {len(own)}" + (f" ({lost} no face)" if lost else "")
