"""The HTML report: complete, self-contained, and safe with whatever a run holds."""

import base64
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy.stats import permutation_test
from synthetic_run import write_run

from iddmbench.errors import UserError
from iddmbench.report.page import compared_table, privacy_table
from iddmbench.report.terminal import print_summary
from iddmbench.report.write import write_outputs
from iddmbench.results.comparable import check_comparable
from iddmbench.results.headline import headlines
from iddmbench.results.paired import comparisons
from iddmbench.results.reproduce import command, shell
from iddmbench.results.run_folder import RunFolder
from iddmbench.results.summary import Condition, Summary, decimal, number, per_cent, threshold_text, written

HOSTILE = '<script>alert("x")</script>'


class Page(HTMLParser):
    """Tags with attributes, and the text of the page."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def written_run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_outputs(shutil.copytree(finished_run, tmp_path_factory.mktemp("out") / "run"))


@pytest.fixture(scope="module")
def html(written_run: RunFolder) -> str:
    return (written_run.path / "report.html").read_text(encoding="utf-8")


def test_all_outputs_are_written(written_run: RunFolder) -> None:
    names = {p.name for p in (written_run.path / "figures").iterdir()}
    assert names == {"tradeoff.png", "tradeoff.svg", "histograms.png", "histograms.svg", "contact_sheet.png"}
    assert not list(written_run.path.glob(".*.part"))


def test_the_page_is_well_formed(html: str) -> None:
    assert Page(html).open == []


def test_nothing_is_loaded_from_elsewhere(html: str) -> None:
    for tag, attributes in Page(html).tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "srcset", "action", "data"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:image/", "#")), (tag, target)
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in html and "url(" not in html
    assert "default-src 'none'" in html


def test_pictures_have_alternatives_and_are_real(html: str) -> None:
    pictures = [attributes for tag, attributes in Page(html).tags if tag == "img"]
    assert len(pictures) == 3
    starts = []
    for attributes in pictures:
        assert len(attributes["alt"] or "") > 20
        starts.append(base64.b64decode((attributes["src"] or "").partition(",")[2])[:8])
    assert sum(s.startswith(b"<?xml") for s in starts) == 2
    assert sum(s.startswith(b"\x89PNG") for s in starts) == 1


def test_tables_have_headers_and_equal_rows(html: str) -> None:
    for table in re.findall(r"<table>.*?</table>", html, re.S):
        assert '<th scope="col">' in table and '<th scope="row">' in table and "<caption>" in table
        columns = table.count('<th scope="col">')
        for row in re.findall(r"<tr.*?</tr>", table.partition("<tbody>")[2], re.S):
            assert row.count("<td") + row.count("<th") == columns


def test_figures_of_the_table_are_on_the_page(written_run: RunFolder, html: str) -> None:
    summary = Summary(written_run)
    text = Page(html).text
    for condition in summary.conditions:
        for attacker in summary.attackers:
            value = summary.get(condition, "r1u", attacker)
            assert f"{number('r1u', value.value)} % [{number('r1u', value.low)}, {number('r1u', value.high)}]" in text
        for name in ("utility_index", "face_detection_rate", "brisque"):
            assert written(name, summary.get(condition, name)) in text
            assert summary.get(condition, name) is not None


def test_failed_cells_are_listed(html: str) -> None:
    text = Page(html).text
    assert "1 of 10 cells failed" in text
    assert "RuntimeError: out of memory" in text


def test_headline_says_what_the_table_says(written_run: RunFolder) -> None:
    summary = Summary(written_run)
    before = summary.get(Condition("none", None), "rank1_hit", "worst-case")
    after = summary.get(Condition("iddm", 1.0), "rank1_hit", "worst-case")
    (sentence,) = [s for s in headlines(summary) if s.startswith("Undefended, the strongest attacker")]
    assert f"{number('rank1_hit', before.value)} % of {before.images} images" in sentence and before.by in sentence
    assert f"With iddm at strength 1: {number('rank1_hit', after.value)} % ({after.by}" in sentence
    (transfer,) = [s for s in headlines(summary) if "did not optimize against" in s]
    assert "(dlib, 95 % CI" in transfer
    (union,) = [s for s in headlines(summary) if s.startswith("Linked by any of 2 attackers")]
    assert "by lucky guesses" in union
    assert "One subject is not enough to distinguish iddm 1.00 from the undefended model." in headlines(summary), (
        "the other one's cell failed"
    )


def rewritten(path: Path, changes: Callable[[pd.DataFrame], None]) -> Summary:
    table = pd.read_parquet(path / "summary.parquet")
    changes(table)
    table.to_parquet(path / "summary.parquet", index=False)
    return Summary(RunFolder.open(path))


def test_an_attacker_that_links_nobody_says_nothing(finished_run: Path, tmp_path: Path) -> None:
    def blind(table: pd.DataFrame) -> None:
        own = (table["attacker"] == "sface") & (table["metric"] == "rank1_hit")
        table.loc[own, ["value", "low", "high"]] = 0.0, 0.0, 0.2

    summary = rewritten(shutil.copytree(finished_run, tmp_path / "run"), blind)
    assert summary.able == ["dlib"]
    (sentence,) = [s for s in headlines(summary) if s.startswith("Nothing can be concluded from sface")]
    assert "0 % [0, 20]" in sentence
    rows = privacy_table(summary, summary.attackers).rows
    assert any("sface" in row[1] and "uninformative" in row[1] for row in rows)
    console = Console(record=True, width=120, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    print_summary(summary.run, console)
    assert "? uninformative: it does not link the undefended model" in console.export_text()


def test_intervals_that_say_little_are_named(finished_run: Path, tmp_path: Path) -> None:
    def widen(table: pd.DataFrame) -> None:
        own = (table["attacker"] == "worst-case") & (table["defense"] == "iddm")
        table.loc[own, ["low", "high"]] = 0.1, 0.8

    summary = rewritten(shutil.copytree(finished_run, tmp_path / "run"), widen)
    assert any("wider than 60 points" in s for s in headlines(summary))
    assert not any("wider than 60 points" in s for s in headlines(Summary(RunFolder.open(finished_run))))


def test_thresholds_show_their_error(written_run: RunFolder, html: str) -> None:
    value = Summary(written_run).get(Condition("iddm", 0.5), "psr@1e-2", "dlib")
    assert threshold_text("psr@1e-2", value) in Page(html).text
    assert value.threshold_low <= value.value <= value.threshold_high
    assert threshold_text("r1u", Summary(written_run).get(Condition("iddm", 0.5), "r1u", "dlib")) == "–"


def test_paired_comparisons_are_a_table(tmp_path: Path) -> None:
    """Eight subjects: p values against scipy's test of the rates counted from the probes, Holm over the table."""
    people = tuple(f"s{i}" for i in range(29, 37))
    run = RunFolder.open(write_run(tmp_path / "run", subjects=people, per_prompt=1, strengths=(0.25, 1.0)))
    shown = comparisons(Summary(run))
    assert [(one.first.title, one.second.title) for one in shown] == [
        ("iddm 1.00", "undefended"),
        ("iddm 1.00", "iddm 0.25"),
    ]
    for one in shown:
        rates = []
        for condition, by in zip((one.first, one.second), one.by, strict=True):
            own = condition.rows(run.probes)
            own = own[(own["attacker"] == by) & own["acquired"]]
            rates.append(own["rank"].eq(1).groupby(own["subject"]).mean().reindex(people).fillna(0).to_numpy())
        theirs = permutation_test(
            tuple(rates), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
        )
        assert one.difference.p_value == pytest.approx(theirs.pvalue)
        assert one.adjusted is not None and one.adjusted >= one.difference.p_value
    assert shown[0].apart and "fewer linked" in compared_table(Summary(run)).rows[0]
    sentence = next(s for s in headlines(Summary(run)) if s.startswith("With iddm 1.00 fewer images are linked"))
    assert "sign-flip test over 8 subjects" in sentence


@pytest.mark.parametrize(
    ("value", "share", "plain"),
    [
        (0.9991, "99.9", "0.999"),
        (0.9996, ">99.9", ">0.999"),
        (0.0004, "<0.1", "<0.001"),
        (0.004, "0.4", "0.004"),
        (0.0, "0", "0.00"),
        (1.0, "100", "1.00"),
        (0.995, "99.5", "0.99"),
        (0.532, "53", "0.53"),
        (123.4, "12340", "123"),
    ],
)
def test_all_and_none_are_said_only_when_they_are_meant(value: float, share: str, plain: str) -> None:
    assert per_cent(value) == share and decimal(value) == plain
    for text, whole in ((per_cent(value), ("0", "100")), (decimal(value), ("0.00", "1.00"))):
        assert (text in whole) == (value in (0.0, 1.0))


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    path = write_run(
        tmp_path / "run",
        defenses=("iddm", HOSTILE.replace("/", "|")),
        subjects=("s29", '"><img src=x onerror=alert(1)>'),
        attackers=("[red]dlib[/red]", "<b>sface[/b]</b>"),
        strengths=(1.0,),
        per_prompt=1,
        failed=(("iddm", 1.0, "s29"),),
        error=HOSTILE,
        prompts=(HOSTILE, "{{ 7 * 7 }}"),
        notes=(HOSTILE, "[bold red]note[/nothing]"),
    )
    config = json.loads((path / "config.json").read_text())
    config |= {"dataset": HOSTILE, "base": "<i>", "skipped": [{"name": HOSTILE, "reason": "</ul>"}]}
    (path / "config.json").write_text(json.dumps(config))
    environment = {"python": HOSTILE, "packages": {"<x>": "</dl>"}}
    (path / "environment.json").write_text(json.dumps(environment))
    run = write_outputs(path)
    html = (path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    assert not {"script", "b", "i", "x"} & {tag for tag, _ in page.tags}
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 3
    assert HOSTILE in page.text
    assert "{{ 7 * 7 }}" in page.text
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    print_summary(run, console)
    text = console.export_text()
    assert "<b>sface[/b]</b>" in text and "[red]dlib[/red]" in text


def test_nothing_finished_still_gives_a_report(tmp_path: Path) -> None:
    failed = tuple((d, s, "s29") for d, s in (("none", None), ("generic", None), ("iddm", 1.0)))
    run = write_outputs(write_run(tmp_path / "run", subjects=("s29",), strengths=(1.0,), failed=failed))
    text = Page((run.path / "report.html").read_text(encoding="utf-8")).text
    assert "nothing to report" in text
    assert "3 of 3 cells failed" in text


def test_terminal_summary(written_run: RunFolder) -> None:
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    print_summary(written_run, console)
    text = console.export_text()
    value = Summary(written_run).get(Condition("iddm", 0.5), "r1u", "dlib")
    interval = f"[{number('r1u', value.low)}–{number('r1u', value.high)}]"
    assert f"{number('r1u', value.value)} %" in text and interval in text
    assert "sface*" in text and "white-box" in text
    assert "Failed" in text
    assert "report.html" in text and "tradeoff.png" in text


def test_command_is_one_that_run_takes(finished_run: Path) -> None:
    import typer

    from iddmbench.cli import app

    config = RunFolder.open(finished_run).config
    group = typer.main.get_command(app)
    arguments = command(config)
    assert arguments[:2] == ["iddmbench", "run"]
    context = group.commands["run"].make_context("run", arguments[2:])  # type: ignore[attr-defined]
    given = context.params
    assert given["defense"] == ["iddm"]
    assert given["strength"] == [0.25, 0.5, 1.0]
    assert given["subject"] == ["s29", "s30"] and given["subjects"] is None
    assert given["attacker"] == ["dlib", "sface"]
    assert given["prompt"] == config["prompts"]
    assert given["images_per_prompt"] == 2
    assert given["set_"] == ["rounds=6"]
    assert "steps=150" in given["lora"] and "guidance=2.0" in given["sampling"]


def test_command_is_quoted_and_names_no_folder_of_the_user() -> None:
    config = {"dataset_options": {"root": "/home/me/photos"}, "prompts": ["it's; rm -rf /"], "anchors": False}
    text = shell(command(config))
    assert "/home/me" not in text
    assert "--prompt 'it'\"'\"'s; rm -rf /'" in text
    assert "--no-anchors" in text


def test_runs_of_two_protocols_are_not_compared(finished_run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(finished_run, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"attackers": ["dlib"]}))
    first = RunFolder.open(finished_run)
    assert check_comparable([first, first]) == []
    assert "attackers" in check_comparable([first, RunFolder.open(other)])[0]
    (other / "config.json").write_text(json.dumps(config | {"protocol": {"version": "2", "hash": "x"}}))
    with pytest.raises(UserError, match="different protocols"):
        check_comparable([first, RunFolder.open(other)])
