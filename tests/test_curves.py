"""CMC and DET curves, the strip plot of subjects, and `plot`: what they show, against counts made by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from synthetic_run import write_run
from typer.testing import CliRunner

from iddmbench.cli import app
from iddmbench.report.curves import cmc, cmc_points, det, det_points, subject_rates, subjects
from iddmbench.report.figures import KNOWN, PALETTE, color, histograms, render, symbol, tradeoff
from iddmbench.results.run_folder import RunFolder

runner = CliRunner()


@pytest.fixture(scope="module")
def run(finished_run: Path) -> RunFolder:
    return RunFolder.open(finished_run)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    path = tmp_path_factory.mktemp("runs") / "orl-aspl"
    return RunFolder.open(write_run(path, defenses=("aspl",), subjects=("s29", "s30"), per_prompt=2, seed=1))


def test_cmc_counts_ranks() -> None:
    k, share = cmc_points(np.array([1, 1, 3, 7]))
    assert k.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert share.tolist() == [0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 1.0]


def test_det_counts_misses_and_alarms() -> None:
    probes = pd.DataFrame(
        {"acquired": [True, True, True, False], "mated": [0.9, 0.5, 0.2, np.nan], "nonmated": [0.3, 0.6, 0.4, np.nan]}
    )
    fpir, fnir = det_points(probes)
    at = {round(t, 2): i for i, t in enumerate([0.2, 0.3, 0.4, 0.5, 0.6, 0.9])}
    assert (fpir[at[0.5]], fnir[at[0.5]]) == (0.25, 0.5), "0.6 is an alarm; 0.2 and the lost image are misses"
    assert (fpir[at[0.4]], fnir[at[0.4]]) == (0.5, 0.5)
    assert (fpir[-1], fnir[-1]) == (0, 1), "at a threshold above all scores"
    assert fnir[0] == 0.25, "a lost image is a miss at any threshold"
    assert (np.diff(fpir) <= 0).all() and (np.diff(fnir) >= 0).all()


def test_subjects_rates_are_of_images_with_a_face() -> None:
    probes = pd.DataFrame(
        {
            "attacker": ["a"] * 4 + ["b"],
            "subject": ["s1", "s1", "s1", "s2", "s1"],
            "acquired": [True, True, False, True, True],
            "rank": [1, 5, 0, 1, 9],
        }
    )
    assert subject_rates(probes, "a").to_dict() == {"s1": 0.5, "s2": 0.0}


def test_the_figures_draw_the_runs_numbers(run: RunFolder) -> None:
    figure = cmc(run)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["dlib", "sface (white-box for some)"]
    probes = run.probes[(run.probes["attacker"] == "dlib") & (run.probes["defense"] == "none") & run.probes["acquired"]]
    line = next(x for x in figure.axes[0].lines if x.get_label() == "undefended")
    assert line.get_ydata()[0] == pytest.approx((probes["rank"] == 1).mean())
    assert len(det(run).axes[0].lines) == len(figure.axes[0].lines) - 1 == 5
    strip = subjects(run)
    dots = sum(len(x.get_xdata()) for x in strip.axes[0].lines if x.get_marker() not in ("", "None", None))
    assert dots == 2 * 5 - 1, "every subject of every condition but the failed cell"


def test_curves_stay_within_what_the_images_resolve(run: RunFolder) -> None:
    """DET: nothing at 0 or 1, where no image is left to tell; CMC: every curve runs to the last candidate, chance beside it."""
    for ax in det(run).axes:
        (low, high), counts = ax.get_xlim(), ax.get_title(loc="right")
        drawn = np.concatenate([line.get_xydata() for line in ax.lines])
        assert np.isfinite(drawn).all(1).any() and np.nanmin(drawn) > low and np.nanmax(drawn) < high
        assert counts.startswith("n = ")
    for ax in cmc(run).axes:
        ends = {float(line.get_xdata()[-1]) for line in ax.lines}
        (chance,) = [line for line in ax.lines if line.get_label() == "chance"]
        assert len(ends) == 1 and ends == {len(chance.get_ydata())}
        assert chance.get_ydata()[0] == pytest.approx(1 / len(chance.get_ydata()))


@pytest.mark.parametrize(("width", "inches"), [("column", 3.5), ("page", 7.16)])
def test_figures_fit_a_paper(run: RunFolder, width: str, inches: float) -> None:
    for draw in (tradeoff, histograms, det, subjects):
        figure = draw(run, width=width)
        figure.canvas.draw()
        texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text()]
        assert figure.get_size_inches()[0] == pytest.approx(inches)
        assert min(t.get_fontsize() for t in texts) >= 4.5
        boxes = [t.get_window_extent() for ax in figure.axes for t in (ax.title, ax._left_title, ax._right_title)]
        assert all(box.x1 <= figure.bbox.x1 + 1 and box.x0 >= -1 for box in boxes if box.width)


def test_several_runs_lie_over_each_other(run: RunFolder, other: RunFolder) -> None:
    labels = [x.get_label() for x in cmc(run, other).axes[0].lines]
    assert "iddm 0.50 (orl-iddm)" in labels and "aspl 0.50 (orl-aspl)" in labels
    colors = {x.get_label(): x.get_color() for x in cmc(run, other).axes[0].lines}
    assert colors["iddm 0.50 (orl-iddm)"] == color("iddm") and colors["aspl 0.50 (orl-aspl)"] == color("aspl")


def test_defenses_are_told_apart_by_colour_and_marker() -> None:
    assert len({(color(d), symbol(d)) for d in KNOWN}) == len(KNOWN)
    assert color("a defense of mine") == color("a defense of mine") and color("a defense of mine") in PALETTE


def test_equal_runs_give_equal_figures(run: RunFolder) -> None:
    for draw in (cmc, det, subjects):
        for kind in ("png", "svg", "pdf"):
            assert render(draw(run), kind) == render(draw(run), kind)


def test_a_run_without_faces_says_so(tmp_path: Path) -> None:
    run = RunFolder.open(write_run(tmp_path / "run", per_prompt=1, subjects=("s29",)))
    probes = run.probes.assign(acquired=False, rank=0, mated=np.nan, nonmated=np.nan)
    probes.to_parquet(run.path / "probes.parquet")
    blind = RunFolder.open(run.path)
    for draw in (cmc, det):
        assert "no scores" in [t.get_text() for t in draw(blind).axes[0].texts]
    render(subjects(blind), "png")


def test_plot_makes_every_kind(finished_run: Path, other: RunFolder, tmp_path: Path) -> None:
    result = runner.invoke(app, ["plot", str(finished_run), "--kind", "all", "--format", "pdf", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    made = {p.name for p in tmp_path.iterdir()}
    assert made == {*(f"{n}.pdf" for n in ("tradeoff", "det", "cmc", "histograms", "subjects", "contact_sheet"))}
    assert all((tmp_path / n).read_bytes().startswith(b"%PDF") for n in made if n.endswith("pdf"))
    both = ["plot", str(finished_run), str(other.path), "--kind", "histograms,sheet,cmc", "--format", "svg"]
    result = runner.invoke(app, [*both, "--out", str(tmp_path / "two")])
    assert result.exit_code == 0, result.output
    made = {p.name for p in (tmp_path / "two").iterdir()}
    assert made == {
        "cmc.svg",
        *(f"histograms-{n}.svg" for n in ("1-orl-iddm", "2-orl-aspl")),
        *(f"contact_sheet-{n}.svg" for n in ("1-orl-iddm", "2-orl-aspl")),
    }


@pytest.mark.parametrize(
    ("kind", "hint"), [("roc", "choose from tradeoff"), ("", "--kind is empty"), ("all,cmc", "--kind all")]
)
def test_plot_mistakes(finished_run: Path, kind: str, hint: str) -> None:
    result = runner.invoke(app, ["plot", str(finished_run), "--kind", kind])
    assert result.exit_code == 2 and hint in result.stderr


def test_a_width_that_is_none(finished_run: Path) -> None:
    result = runner.invoke(app, ["plot", str(finished_run), "--width", "poster"])
    assert result.exit_code == 2 and "choose from screen, page, column" in result.stderr
