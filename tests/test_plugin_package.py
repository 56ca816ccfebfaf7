"""A third-party package, installed as one, is found, listed and used with no edit here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tests" / "plugin_package"


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
    assert done.returncode == 0 and "my-blur" in done.stdout and "my-pixels" in done.stdout, done.stderr


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
    for name in ("pyproject.toml", "iddmbench_example/blur.py", "iddmbench_example/pixels.py"):
        assert (PACKAGE / name).read_text() in blocks, name


def test_the_example_runs() -> None:
    done = subprocess.run([sys.executable, ROOT / "examples" / "measure_my_model.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "rank-1" in done.stdout
