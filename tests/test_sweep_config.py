"""Sweep files: what they make, and what they are told is wrong, with the line."""

from pathlib import Path

import pytest
import yaml

from iddmbench.errors import UserError
from iddmbench.run.config import RunConfig
from iddmbench.sweep.config import load_sweep, parse_changes, suites


def write(folder: Path, text: str) -> str:
    path = folder / "table.yaml"
    path.write_text(text)
    return str(path)


GOOD = """\
name: table
subjects: all
strengths: [0.5, 1]
seeds: [0, 1]
matrix:
  precision: [fp32, bf16]
runs:
  all: {defenses: [iddm, blur]}
  other:
    defenses: [iddm]
    strengths: [1]
    defense_options: {surrogate: dlib}
"""


def test_runs_are_every_combination(tmp_path: Path) -> None:
    sweep = load_sweep(write(tmp_path, GOOD))
    assert list(sweep.runs) == ["all-fp32", "all-bf16", "other-fp32", "other-bf16"]
    first, last = sweep.runs["all-fp32"], sweep.runs["other-bf16"]
    assert (
        first.subjects == "all"
        and first.seeds == (0, 1)
        and first.strengths == (0.5, 1.0)
        and first.precision == "fp32"
    )
    assert last.strengths == (1.0,) and last.defense_options == {"surrogate": "dlib"} and last.precision == "bf16"


def test_settings_of_the_command_line_go_first(tmp_path: Path) -> None:
    changes = parse_changes(["subject=[s29,s30]", "strengths=[0.25]", "precision=fp16"])
    sweep = load_sweep(write(tmp_path, GOOD), changes)
    assert {c.subjects for c in sweep.runs.values()} == {("s29", "s30")}
    assert {c.strengths for c in sweep.runs.values()} == {(0.25,)}
    assert sweep.folder != load_sweep(write(tmp_path, GOOD)).folder


def test_without_runs_there_is_one(tmp_path: Path) -> None:
    sweep = load_sweep(write(tmp_path, "defenses: [blur]\n"))
    assert sweep.name == "table" and list(sweep.runs) == ["table"]
    assert sweep.runs["table"] == RunConfig(defenses=("blur",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nstrenghts: [1]\n", r"table.yaml, line 2: unknown key 'strenghts': did you mean 'strengths'\?"),
        ("name: x\nruns:\n  a:\n    defences: [iddm]\n", r"line 4: unknown key 'defences': did you mean 'defenses'\?"),
        ("name: x\nstrengths: [0.5]\nname: y\n", "line 3: 'name' appears twice, first on line 1"),
        ("strengths:\n- 0.5\n- 1.5\n", r"line 1: run 'table', strengths: strength 1.5 is outside \[0, 1\]"),
        (
            "strengths: [0.501, 0.502]\n",
            "line 1: run 'table', strengths: strengths 0.501 and 0.502 are the same to two",
        ),
        ("seeds:\n- 0\n- x\n", "line 3: run 'table', seeds.1: Input should be a valid integer"),
        (
            "runs:\n  a: {}\n  b:\n    defenses: [idm]\n",
            r"line 3: run 'b': unknown defense 'idm': did you mean 'iddm'\?",
        ),
        ("defense_options: {round: 3}\n", r"line 1: run 'table': defense 'iddm' has no option 'round'"),
        ("matrix: {base: micro}\n", "line 1: matrix.base: give a list of values"),
        ("matrix:\n  bases: [micro]\n", "line 2: unknown key 'bases'"),
        ("matrix:\n  base: [/a/x, /b/x]\n", "two runs are named 'table-x'"),
        ("runs:\n  ../a: {}\n", r"line 2: '../a' is not a valid folder name"),
        ("name: a/b\n", "line 1: 'a/b' is not a valid folder name"),
        ("runs: [a]\n", "line 1: runs: expected KEY: VALUE, found list"),
        ("- a\n", "line 1: expected KEY: VALUE, found list"),
        ("name: [\n", "table.yaml, line 2: "),
        ("a: b: c\n", "table.yaml, line 1: mapping values are not allowed here"),
        ("name: !!python/object/apply:os.system ['true']\n", "table.yaml, line 1: could not determine a constructor"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_sweep(write(tmp_path, text))


def test_folders_are_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may have another working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    text = "dataset: folder\ndataset_options: {root: photos}\nbase: models/mine\n"
    run = load_sweep(write(tmp_path, text)).runs["table"]
    assert run.dataset_options == {"root": str(tmp_path / "photos")} and run.base == str(tmp_path / "models" / "mine")


def test_files_and_suites(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no suite or file 'orl-cor': did you mean 'orl-core'\?"):
        load_sweep("orl-cor")
    with pytest.raises(UserError, match=r"no such file: no/such\.yaml"):
        load_sweep("no/such.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(UserError, match="can't be read"):
        load_sweep(str(tmp_path / "latin.yaml"))


def test_changes_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--set: give a number or 'all' by subjects, or names by subject, not both"):
        load_sweep(write(tmp_path, GOOD), parse_changes(["subjects=3", "subject=[s29]"]))
    with pytest.raises(UserError, match=r"--set subjetcs: runs have no such setting: did you mean 'subjects'\?"):
        load_sweep(write(tmp_path, GOOD), parse_changes(["subjetcs=3"]))
    with pytest.raises(UserError, match="--set subjects: write it as --set KEY=VALUE"):
        parse_changes(["subjects"])
    with pytest.raises(UserError, match="--set subjects=\\["):
        parse_changes(["subjects=["])


@pytest.mark.parametrize("name", ["smoke", "orl-core", str(Path(__file__).parents[1] / "examples" / "table.yaml")])
def test_suites_that_run_here(name: str) -> None:
    assert load_sweep(name).name in (name, "my-table")


def test_the_core_suite_has_every_defense() -> None:
    from iddmbench.defense import DEFENSES

    core = load_sweep("orl-core")
    runs = ("authorized", "controls")
    planned = {d.name for run in runs for d in core.runs[run].plan()}
    assert planned == {
        n for n in DEFENSES.names() if not n.startswith(("example", "my-", "protected-photos", "control-alike"))
    }


@pytest.mark.slow
def test_the_synthetic_suite_reports_on_people_whom_nothing_was_tuned_on() -> None:
    """As the leaderboard's track does; women and men alike, and every defense of the other core suite."""
    from iddmbench.datasets.synthetic import Synthetic
    from iddmbench.leaderboard.tracks import REPORTED, TRACKS

    core, other = (load_sweep(name) for name in ("synthetic-core", "orl-core"))
    assert {name: [d.name for d in c.plan()] for name, c in core.runs.items()} == {
        name: [d.name for d in c.plan()] for name, c in other.runs.items()
    }
    reported = {subject.name: subject.traits["sex"] for subject in Synthetic(part="report").load().subjects}
    for people in (REPORTED, core.runs["authorized"].subjects):
        sexes = [reported[name] for name in people]  # type: ignore[union-attr]
        assert sexes.count("female") == sexes.count("male") >= 6
    assert [(t.dataset, t.base) for t in TRACKS] == [("orl", "micro"), ("synthetic", core.runs["authorized"].base)]


def test_a_base_that_is_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from iddmbench.models import base
    from iddmbench.run.plan import ResourceCache
    from iddmbench.sweep.plan import Run

    monkeypatch.setitem(base.EMBEDDED, "micro-rgb", "no-such-folder")
    with pytest.raises(UserError, match=r"^run 'authorized': the embedded base model 'micro-rgb' is missing") as caught:
        Run.open("authorized", load_sweep("synthetic-core"), tmp_path, ResourceCache())
    assert "reinstall" in str(caught.value) and "\n" not in str(caught.value)


def test_ablations_change_one_part_each() -> None:
    """And each part that the default has, once. Two need two options: texture, and data that never see the model. On ORL by
    three settings."""
    from iddmbench.defense import configure
    from iddmbench.defenses.iddm import IDDM

    sweep = load_sweep("ablations", check=False)
    usual = configure(IDDM, {}).model_dump()
    changed = {}
    for name, run in sweep.runs.items():
        (iddm,) = (d for d in run.plan() if d.name == "iddm")
        changed[name] = {k for k, v in iddm.model_dump().items() if v != usual[k]}
        assert run.dataset_options == {"part": "tuning"} and run.strengths == (1.0,)
    assert changed.pop("default") == set() and changed.pop("texture") == {"surrogate", "balance"}
    assert changed.pop("uncoupled") == {"alternate", "lambda_dm"}
    assert all(len(options) == 1 for options in changed.values())
    parts = {"alternate", "suppress", "space", "lambda_dm", "lambda_util", "surrogate", "margin", "aim", "jitter"}
    assert set().union(*changed.values()) == parts | {"diversity", "balance", "rounds", "eps"}
    orl = load_sweep("ablations", parse_changes(["dataset=orl", "base=micro", "dataset_options={}"]), ["default"])
    assert (orl.runs["default"].dataset, orl.runs["default"].dataset_options) == ("orl", {})


def test_the_study_has_three_seeds_and_strengths_and_reports_on_others() -> None:
    sweep = load_sweep("study", check=False)
    assert {(run.dataset, len(run.seeds), len(run.strengths)) for run in sweep.runs.values()} == {
        ("orl", 3, 3),
        ("synthetic", 3, 3),
    }
    assert {run.attackers for run in sweep.runs.values()} == {sweep.runs["orl-keyed"].attackers}
    from iddmbench.datasets.synthetic import Synthetic

    rows = Synthetic().table()
    tuning = {row["person"] for row in rows if row["tuning"] == "1"}
    people = sweep.runs["synthetic-keyed"].subjects
    assert (
        isinstance(people, tuple)
        and len(people) == 24
        and not tuning & {*people}
        and {*people} <= {r["person"] for r in rows}
    )


def test_the_papers_suite_needs_what_it_says(tmp_path: Path) -> None:
    """Its settings are valid; what is not here (weights, photos) is named."""
    sweep = load_sweep("paper", check=False)
    assert len(sweep.runs) == 3 * 2 * 2 + 2 + 2 + 2 + 1 + 2 * 2
    assert {c.dataset for c in sweep.runs.values()} == {"vggface2", "celebahq"}
    assert sweep.runs["unauthorized-jpeg-celebahq-sd21"].purify == "jpeg-75"
    followed = {name: c.departures() for name, c in sweep.runs.items() if c.protocol == "anti-dreambooth"}
    assert list(followed) == ["anti-dreambooth-vggface2", "anti-dreambooth-celebahq"]
    content = yaml.safe_load(suites()["paper"].read_text())
    for run in content["runs"].values():  # the weights are not here
        names = {"amt-gan": None, "iddm": None, "anti-dreambooth": None}
        if run.get("protocol") not in names:
            run["attackers"] = ["dlib", "sface"]
    ours = [name for name, run in content["runs"].items() if "protocol" not in run]
    assert len(load_sweep(write(tmp_path, yaml.safe_dump(content)), only=ours).runs) == 3 * 2 * 2 + 2 + 2
    with pytest.raises(UserError, match=r"--only lora: .* has no such run"):
        load_sweep("paper", only=["lora"])


def test_a_run_s_own_matrix_replaces_the_shared_one(tmp_path: Path) -> None:
    text = """
matrix: {seeds: [[0], [1]]}
runs:
  shared: {}
  own: {matrix: {images_per_prompt: [1, 2, 3]}}
"""
    runs = load_sweep(write(tmp_path, text)).runs
    assert {n: (c.seeds, c.images_per_prompt) for n, c in runs.items()} == {
        "shared-0": ((0,), 4),
        "shared-1": ((1,), 4),
        "own-1": ((0,), 1),
        "own-2": ((0,), 2),
        "own-3": ((0,), 3),
    }
    with pytest.raises(UserError, match=r"line 4: matrix\.seeds: give a list"):
        load_sweep(write(tmp_path, "runs:\n  own:\n    matrix:\n      seeds: 3\n"))


def test_people_by_number_or_by_name(tmp_path: Path) -> None:
    """One meaning each, and every layer of a file goes before the next one."""
    text = """
subjects: 7
runs:
  shared: {}
  all: {subjects: all}
  named: {subject: ["7", "a, b", all]}
  listed: {subjects: [s29, s30]}
  alone: {subject: s29}
"""
    path = write(tmp_path, text)
    found = {name: run.subjects for name, run in load_sweep(path).runs.items()}
    assert found == {
        "shared": 7,
        "all": "all",
        "named": ("7", "a, b", "all"),
        "listed": ("s29", "s30"),
        "alone": ("s29",),
    }
    named = load_sweep(path, parse_changes(["subject=['7']"]))
    assert {run.subjects for run in named.runs.values()} == {("7",)}
    one_each = load_sweep(write(tmp_path, "matrix: {subject: [s29, [s30, s31]]}\n"))
    assert {name: run.subjects for name, run in one_each.runs.items()} == {
        "table-s29": ("s29",),
        "table-s30+s31": ("s30", "s31"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: [0]\nsubjects: s29\n", "line 2: run 'table', subjects: 's29' is not a number: .* in a file subject:"),
        ("subjects: 0\n", "line 1: run 'table', subjects: 0 is too few: give at least 1, or 'all'"),
        ("subjects: []\n", "give at least one name, a number, or 'all'"),
        ("seeds: [0]\nsubject: [7]\n", "line 2: run 'table', subjects: a name is text: write '7' in quotes"),
        ("subjects: 2\nsubject: [a]\n", "line 2: give a number or 'all' by subjects, or names by subject, not both"),
        ("subjects: true\n", "give a number, or 'all'"),
    ],
)
def test_what_is_no_choice_of_people(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_sweep(write(tmp_path, text))
