"""A third-party package, installed as one, is found, listed and used with no edit here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tests" / "plugin_package"
EXAMPLES = ("blur", "pixels", "edges", "shift", "median", "cross_attention", "people")
PLUGINS = [
    ("attacker", "my-pixels"),
    ("attacker", "my-edges"),
    ("defense", "my-blur"),
    ("adaptive", "my-shift"),
    ("purifier", "my-median"),
    ("personalizer", "my-cross-attention"),
    ("dataset", "my-orl"),
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables under which the package is installed."""
    import shutil

    source = tmp_path_factory.mktemp("source") / "package"  # building leaves files in the source folder
    shutil.copytree(PACKAGE, source)
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--target", str(target), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {**os.environ, "PYTHONPATH": str(target)}


def python(code: str, environment: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_listed(installed: dict[str, str]) -> None:
    code = "from iddmbench.cli import main; main()"
    command = [sys.executable, "-c", code, "list"]
    done = subprocess.run(command, env=installed, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    for _, name in PLUGINS:
        assert name in done.stdout, name


def test_it_works(installed: dict[str, str]) -> None:
    code = (
        "import numpy as np\n"
        "from iddmbench.attacker import ATTACKERS\n"
        "from iddmbench.datasets.orl import photo\n"
        "from iddmbench.defense import DEFENSES, configure\n"
        "images = np.stack([photo(33, k).image for k in (1, 2, 3)])\n"
        "blurred = configure(DEFENSES.get('my-blur'), {'strength': 1, 'sigma': '0.02'}).release(images, None)\n"
        "same = configure(DEFENSES.get('my-blur'), {'strength': 0}).release(images, None)\n"
        "assert (same == images).all() and blurred.shape == images.shape and (blurred != images).any()\n"
        "attacker = ATTACKERS.get('my-pixels')()\n"
        "found = attacker.embed(images)\n"
        "assert attacker.available() is None and found.acquired.all() and len(attacker.fingerprint()) == 64\n"
        "print(np.linalg.norm(found.vectors, axis=1).round(3))\n"
    )
    assert python(code, installed).split() == ["[1.", "1.", "1.]"]


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_the_documented_plugins_pass_their_checks(kind: str, name: str, installed: dict[str, str]) -> None:
    command = [sys.executable, "-m", "iddmbench", "check", kind, name]
    done = subprocess.run(command, env=installed, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0 and "failed" not in done.stdout, done.stdout + done.stderr
    if kind == "attacker":
        assert re.search(
            r"figures +recognition: EER 1\d\.\d% over 280 mated .* rank 1 8\d\.\d% of 84 photos", done.stdout
        )


BROKEN = """
[project]
name = "iddmbench-broken"
version = "0.1.0"

[project.entry-points."iddmbench.attackers"]
syntax = "iddmbench_broken.syntax:X"
library = "iddmbench_broken.library:X"
number = "iddmbench_broken:NUMBER"
untitled = "iddmbench_broken:Untitled"
angry = "iddmbench_broken:Angry"
dlib = "iddmbench_broken:Angry"

[project.entry-points."iddmbench.defenses"]
gone = "iddmbench_broken.gone:X"

[project.entry-points."iddmbench.adaptive"]
lost = "iddmbench_broken.lost:X"
[project.entry-points."iddmbench.purifiers"]
smudge = "iddmbench_broken:NUMBER"
[project.entry-points."iddmbench.personalizers"]
nobody = "iddmbench_broken.nobody:X"
[project.entry-points."iddmbench.datasets"]
empty = "iddmbench_broken.empty:X"

[tool.setuptools]
packages = ["iddmbench_broken"]
"""
MODULE = """
from iddmbench.attacker import Attacker

NUMBER = 3

class Untitled(Attacker):
    name, dim, licence, source = "untitled", 2, "l", "s"

class Angry(Attacker):
    name, title, dim, licence, source = "angry", "t", 2, "l", "s"

    def available(self):
        raise RuntimeError("no luck\\nat all")

    def _embed(self, images, faces): ...
    def fingerprint(self): ...
"""


def test_broken_packages_are_one_line_each_and_hide_no_other(tmp_path: Path) -> None:
    """A syntax error, a missing library, no class, no title, an error when asked, and the name of a built-in one."""
    source, target = tmp_path / "source", tmp_path / "installed"
    (source / "iddmbench_broken").mkdir(parents=True)
    (source / "pyproject.toml").write_text(BROKEN)
    (source / "iddmbench_broken" / "__init__.py").write_text(MODULE)
    (source / "iddmbench_broken" / "syntax.py").write_text("def x(:\n")
    (source / "iddmbench_broken" / "library.py").write_text("raise OSError('libGL.so.1: cannot open shared object')\n")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(source)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")])}
    environment["COLUMNS"] = "600"

    def iddmbench(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "iddmbench", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    for arguments in (("list",), ("doctor",)):
        done = iddmbench(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        for text in ("SyntaxError", "libGL.so.1", "must be a subclass of Attacker", "`title` to a text", "no luck"):
            assert len([line for line in done.stdout.splitlines() if text in line]) == 1, (arguments, text, done.stdout)
        assert (
            "attacker 'dlib' is defined twice, by iddmbench.attackers.dlib:Dlib and iddmbench_broken:Angry"
            in done.stdout
        )
        assert "iddmbench_broken.gone" in done.stdout and "sface" in done.stdout
        for name in ("lost:X", "nobody:X", "empty:X", "must be a subclass of Purifier"):
            assert len([line for line in done.stdout.splitlines() if name in line]) == 1, (arguments, name, done.stdout)
    refused = iddmbench("check", "attacker", "library")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "libGL.so.1" in refused.stderr
    angry = iddmbench("check", "attacker", "angry")
    assert angry.returncode == 2 and angry.stderr.count("\n") == 1 and "no luck" in angry.stderr, angry.stderr
    twice = iddmbench("run", "--attacker", "dlib")
    assert twice.returncode == 2 and "uninstall one" in twice.stderr


def test_without_it_the_names_are_unknown() -> None:
    code = (
        "from iddmbench.defense import DEFENSES\n"
        "from iddmbench.errors import UserError\n"
        "try:\n    DEFENSES.get('my-blur')\nexcept UserError as error:\n    print(error)\n"
    )
    assert "unknown defense 'my-blur'" in python(code, {**os.environ})


def test_the_guide_shows_the_same_code() -> None:
    """docs/plugins.md is what is tested here, word for word."""
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", (ROOT / "docs" / "plugins.md").read_text(), re.DOTALL)
    for name in ("pyproject.toml", *(f"iddmbench_example/{file}.py" for file in EXAMPLES)):
        assert (PACKAGE / name).read_text() in blocks, name
