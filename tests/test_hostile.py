"""Hostile command lines: each ends at once with exit status 2 and one line that says what is wrong, and writes nothing."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from tiny_base import write_base
from typer.testing import CliRunner

from iddmbench.cli import app
from iddmbench.cli.errors import CommandGroup
from iddmbench.errors import printable

runner = CliRunner()
pytestmark = pytest.mark.usefixtures("plugins")
LONG = "x" * 300


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def refused(arguments: list[str], *parts: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2, (arguments, result.output, result.exception)
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert printable(result.stderr.rstrip("\n")) == result.stderr.rstrip("\n")
    for part in parts:
        assert part in result.stderr


RUN = {
    "a seed beyond 64 bits": (["--seed", str(2**70)], ["seeds.0", "less than or equal to 2147483648"]),
    "a seed that no bundle can hold": (["--seed", str(2**31 + 1)], ["seeds.0", "less than or equal to 2147483648"]),
    "a negative seed": (["--seed", "-1"], ["seeds.0", "greater than or equal to 0"]),
    "a seed that is no number": (["--seed", "one"], ["'--seed'", "integer"]),
    "negative threads": (["--threads", "-1"], ["'--threads'", "0", "see `iddmbench run --help`"]),
    "an unknown option": (["--sede", "1"], ["o such option", "--sede", "see `iddmbench run --help`"]),
    "an empty prompt": (["--prompt", ""], ["prompts: a prompt is empty"]),
    "a blank prompt": (["--prompt", "a face", "--prompt", " "], ["prompts: a prompt is empty"]),
    "a prompt with a null": (["--prompt", "a\0b"], [r"prompts: 'a\x00b' holds a control character"]),
    "a prompt that clears the screen": (["--prompt", "a\x1b[2J"], [r"prompts: 'a\x1b[2J' holds a control character"]),
    "an attacker that turns the line": (["--attacker", "\u202eecafs"], [r"'\u202eecafs' holds a control character"]),
    "a surrogate that is none": (["--defense", "iddm", "--set", "surrogate="], ["surrogate=", "at least 1 item"]),
    "a surrogate of commas": (["--defense", "cloak", "--set", "surrogate=,"], ["surrogate=", "at least 1 item"]),
    "a surrogate without gradients": (
        ["--defense", "iddm", "--set", "surrogate=hog"],
        ["attacker 'hog' is not differentiable, so it can't be a defense's surrogate"],
    ),
    "a surrogate that is no network": (
        ["--defense", "iddm", "--set", "surrogate=onnx:/etc/passwd"],
        ["surrogate 'onnx:/etc/passwd' can't run: /etc/passwd can't be read as an ONNX model"],
    ),
    "a surrogate that is not here": (
        ["--defense", "iddm", "--set", "surrogate=facenet-casia"],
        ["surrogate 'facenet-casia' can't run: needs"],
    ),
    "an infinite weight": (["--defense", "iddm", "--set", "lambda_id=inf"], ["lambda_id='inf'", "finite number"]),
    "endless guidance": (["--sampling", "guidance=inf"], ["--sampling guidance='inf'", "finite number"]),
    "guidance that is no number": (["--sampling", "guidance=nan"], ["--sampling guidance='nan'"]),
    "a learning rate that is no number": (["--lora", "learning_rate=nan"], ["--lora learning_rate='nan'"]),
    "no targets": (["--lora", "targets=,"], ["--lora targets is empty"]),
    "targets that the base lacks": (["--lora", "targets=to_q,to_z"], ["--lora targets", "'to_z'"]),
    "a strength that is no number": (["--strength", "nan"], ["strength nan is outside [0, 1]"]),
    "an unknown preset": (["--defense", "iddm", "--preset", "nosuch"], ["has no preset 'nosuch'", "known: "]),
    "a preset where there is none": (["--defense", "echo", "--preset", "nosuch"], ["'echo' has no preset 'nosuch'"]),
    "an unknown precision": (["--precision", "fp8"], ["precision: Input should be 'fp32', 'bf16' or 'fp16'"]),
    "an unknown threat": (["--threat", "x"], ["threat: Input should be 'authorized' or 'unauthorized'"]),
    "a purifier out of range": (
        ["--defense", "aspl", "--threat", "unauthorized", "--purify", "jpeg-nan"],
        ["purifier 'jpeg-nan'"],
    ),
    "a device without numbers": (["--device", "meta"], ["device 'meta' can't be used"]),
    "no device": (["--device", ""], ["device '' can't be used"]),
    "too many images": (["--images-per-prompt", "1001"], ["images_per_prompt", "less than or equal to 1000"]),
    "a data option of another type": (
        ["--dataset", "folder", "--data", "root=photos", "--data", "references=four"],
        ["dataset 'folder': references='four': input should be a valid integer"],
    ),
    "a data option that refers to itself": (
        ["--dataset", "folder", "--data", "references=&a [*a]"],
        ["--data references=&a [*a], line 1: refers to itself"],
    ),
    "a data option that is no YAML": (["--dataset", "folder", "--data", "references=["], ["--data references=["]),
    "a base that is mistyped": (["--base", "models/sd15"], ["no folder 'models/sd15'"]),
    "a base that is no file": (["--base", "weights.safetensors"], ["no file 'weights.safetensors'"]),
    "an out that is a file": (["--out", "/etc/passwd"], ["/etc/passwd is not a folder"]),
    "an out below a file": (["--out", "/etc/passwd/x"], ["/etc/passwd/x", "not a directory"]),
    "an out in /proc": (["--out", "/proc/x"], ["/proc/x"]),
    "an out that is too long": (["--out", LONG], ["file name too long"]),
    "a cache that is a file": (["--cache", "/etc/passwd"], ["cache folder /etc/passwd can't be written"]),
}


@pytest.mark.parametrize("case", RUN)
def test_run(case: str, base: Path, here: Path) -> None:
    arguments, parts = RUN[case]
    usual = ["run", "--dataset", "tiny-orl", "--base", str(base), "--subjects", "1", "--strength", "1"]
    usual += ["--attacker", "coarse", "--images-per-prompt", "1"]
    if "--defense" not in arguments:
        usual += ["--defense", "none"]
    refused([*usual, *arguments], *parts)
    assert list(here.iterdir()) == [], "something was written"


OTHERS = {
    "a bundle path of 300 characters": (["verify", LONG + ".zip"], ["x"]),
    "a bundle name that sets the title": (["verify", "x\x1b]0;y\x07.zip"], [r"x\x1b]0;y\x07.zip"]),
    "a run folder of 300 characters": (["report", LONG], ["x"]),
    "an empty run folder": (["report", ""], ["not a run folder"]),
    "no run to report": (["report"], ["no run folder in runs"]),
    "a status of a file": (["status", "/etc/passwd"], ["no such folder"]),
    "negative failures": (["status", ".", "--failures", "-1"], ["'--failures'", "0"]),
    "a list of nothing": (["list", ""], ["there is no list of ''"]),
    "a list of escapes": (["list", "\x1b[2J"], [r"there is no list of '\x1b[2J'"]),
    "a plugin without a name": (["list", "defense", ""], ["unknown defense ''"]),
    "an attacker without a name": (["list", "attacker", ""], ["unknown attacker ''"]),
    "a plugin in a file": (["new", "attacker", "mine", "--in", "/etc/passwd"], ["--in /etc/passwd is not a folder"]),
    "a plugin in /proc": (["new", "attacker", "mine", "--in", "/proc"], ["/proc/iddmbench-mine"]),
    "a timeout that is no number": (["sweep", "smoke", "--timeout", "nan"], ["--timeout nan: give seconds"]),
    "a timeout that never ends": (["sweep", "smoke", "--timeout", "inf"], ["--timeout inf: give seconds"]),
    "a negative timeout": (["sweep", "smoke", "--timeout", "-1"], ["--timeout -1: give seconds"]),
    "negative workers": (["sweep", "smoke", "--workers", "-1"], ["--workers"]),
    "a sweep on no device": (["sweep", "smoke", "--device", ","], ["--device is empty"]),
    "a sweep of 300 characters": (["sweep", LONG], ["no suite or file"]),
    "a setting that refers to itself": (["sweep", "smoke", "--set", "prompts=&a [*a]"], ["refers to itself"]),
    "a setting that is nested too deeply": (
        ["sweep", "smoke", "--set", f"prompts={'[' * 3000}"],
        ["nested too deeply"],
    ),
    "a setting that is no date": (["sweep", "smoke", "--set", "base=2020-13-45"], ["month must be in 1..12"]),
    "a sweep's seed beyond 64 bits": (["sweep", "smoke", "--set", f"seeds=[{2**70}]"], ["seeds.0"]),
    "no command of that name": (["rnu"], ["No such command 'rnu'"]),
    "no command of a group": (["cache", "rm"], ["No such command 'rm'"]),
    "endless training": (["train-base", "out", "--vae-steps", "inf"], ["--vae-steps"]),
    "weights of nobody": (["fetch", "\x1b[2J"], [r"unknown attacker '\x1b[2J'"]),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_commands(case: str, here: Path) -> None:
    arguments, parts = OTHERS[case]
    refused(arguments, *parts)
    assert list(here.iterdir()) == [], "something was written"


def test_a_sweep_file_that_refers_to_itself(here: Path) -> None:
    (here / "loop.yaml").write_text("name: loop\nruns: &a\n  one: *a\n")
    refused(["sweep", "loop.yaml"], "loop.yaml, line 2: refers to itself")
    bomb = "a0: &a0 [1, 2]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    (here / "bomb.yaml").write_text(bomb)
    refused(["sweep", "bomb.yaml"], "bomb.yaml: more than 100000 values")


def test_a_group_without_a_command_shows_its_help(here: Path) -> None:
    result = runner.invoke(app, ["cache"])
    assert "verify" in result.output and "gc" in result.output and "error:" not in result.output


def test_a_board_in_a_file(here: Path) -> None:
    (here / "file").write_text("mine")
    result = runner.invoke(app, ["leaderboard", "build", "--out", "file"])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    assert (here / "file").read_text() == "mine"


# ---- as processes -------------------------------------------------------------------------------------------------------


def test_python_m_iddmbench() -> None:
    done = subprocess.run([sys.executable, "-m", "iddmbench", "--version"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and re.fullmatch(r"iddmbench \d+\.\d+\.\d+\n", done.stdout), done.stderr


TERMINATED = """
import sys, time
import typer
from pathlib import Path
from iddmbench.cli.errors import CommandGroup
from iddmbench.store.cache import Store

app = typer.Typer(cls=CommandGroup, pretty_exceptions_enable=False)

@app.command("work")
def work():
    def compute(out):
        (out / "half").write_text("1")
        print("started", flush=True)
        time.sleep(60)
    Store(Path(sys.argv[2])).fetch("stage", {"a": 1}, compute)

app.command("other")(lambda: None)
sys.argv, folder = [sys.argv[0], "work", sys.argv[1]], sys.argv[1]
app(["work"])
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_command_tidily(signum: signal.Signals, tmp_path: Path) -> None:
    """SIGTERM as SIGINT: no half-made entry stays, and the last line says how to go on."""
    child = subprocess.Popen(
        [sys.executable, "-c", TERMINATED, str(tmp_path / "cache")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # ignored where the tests run in the background
    )
    assert child.stdout is not None and child.stdout.readline() == "started\n"
    time.sleep(0.1)
    child.send_signal(signum)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130
    assert stderr == "interrupted: run the same command again to resume\n"
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


LIMITED = """
import resource, sys
from pathlib import Path
import torch, typer
from iddmbench.cli.errors import CommandGroup
from iddmbench.store.files import write_tensors

app = typer.Typer(cls=CommandGroup, pretty_exceptions_enable=False)

@app.command("work")
def work():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
    if sys.argv[2] == "adapter":
        write_tensors(Path(sys.argv[1]), {"w": torch.zeros(1 << 18)})
    else:
        Path(sys.argv[1]).write_bytes(bytes(1 << 20))

app.command("other")(lambda: None)
app(["work"])
"""


@pytest.mark.parametrize("what", ["file", "adapter"])
def test_a_file_that_gets_too_large_is_one_line(what: str, tmp_path: Path) -> None:
    """ulimit -f; a full disk is told in the same way. The safetensors library's own error hides the system's."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "file"), what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: file too large") and done.stderr.count("\n") == 1


def test_a_fresh_cache_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    """Its mark is written whole: nobody reads half of it."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom iddmbench.store.cache import Store\n"
        "for i in range(300):\n    Store(Path(sys.argv[1]) / str(i))\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE) for _ in range(3)]
    for child in children:
        _, stderr = child.communicate(timeout=120)
        assert child.returncode == 0, stderr.decode()
    assert all((tmp_path / str(i) / "cache.json").is_file() for i in range(300))
    assert not list(tmp_path.rglob("cache.json.*"))


def test_printable() -> None:
    assert printable("Käthe's 写真") == "Käthe's 写真"
    assert printable("x\x1b]0;y\x07\u202e\udcff\n z") == r"x\x1b]0;y\x07\u202e\udcff z"
    assert os.fsdecode(b"\xff") in "\udcff" and isinstance(CommandGroup, type) and typer
