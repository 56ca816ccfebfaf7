"""Shared by the tests: the quick plugins, and a finished run folder, made once."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import numpy as np

    from iddmbench.defense import Workbench
    from iddmbench.models.base import BaseModel

# Tests compare bits between processes: how many threads there are must not follow the machine's load. Under `-n` the test
# processes share the cores.
_SHARE = (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _SHARE)))
# Most runs of the tests are so small that starting another process takes longer.
os.environ.setdefault("IDDMBENCH_WORKERS", "1")

SLOW = {
    "adaptive",
    "api",
    "attacker_files",
    "attackers",
    "bad_input",
    "cli_new_check",
    "cli_read",
    "cli_run",
    "curves",
    "damage",
    "defenses",
    "executors",
    "export",
    "few_faces",
    "folder",
    "guards",
    "hostile",
    "keys",
    "leaderboard",
    "leaderboard_browser",
    "maintenance",
    "memory",
    "mtcnn",
    "personalize",
    "perturb",
    "pipeline",
    "plugin_package",
    "properties",
    "purify",
    "selection",
    "slurm",
    "submission_fraud",
    "submission_read",
    "submission_verify",
    "sweep",
    "threat",
    "train_base",
}
"""Files whose tests train models, start processes or look at many photos: `pytest -m "not slow"` leaves them out."""


SLOW_FIXTURES = {"look"}
"""Fixtures that look at all of ORL's photos; whichever test is first pays."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem.removeprefix("test_") in SLOW or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


# Test files are imported by path (--import-mode=importlib), so helpers beside them need this.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def plugins() -> Iterator[None]:
    """The plugins of lab_plugins.py are known by name: `pytestmark = pytest.mark.usefixtures("plugins")`."""
    from lab_plugins import install

    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> "BaseModel":
    """A base of random weights; files that need another one, or its folder, have a `base` of their own."""
    from tiny_base import write_base

    from iddmbench.models.base import load_base

    return load_base(str(write_base(tmp_path_factory.mktemp("base"))))


@pytest.fixture(scope="module")
def references(base: "BaseModel") -> "np.ndarray":
    """Two photos of ORL's first subject, as a defense gets them."""
    from iddmbench.datasets.orl import ORL
    from iddmbench.faces.detect import YuNet
    from iddmbench.photos.references import crop_references

    return crop_references(ORL().load().subjects[0], base, YuNet())[:2]


@pytest.fixture
def bench(base: "BaseModel") -> "Workbench":
    """What a defense works with, and may use all of."""
    from iddmbench.conformance.defense import workbench

    return workbench(base, declared=None)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and an empty cache beside it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("IDDMBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "here"


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with one failed cell, as the pipeline leaves it. Read only: whoever changes one makes a copy."""
    from synthetic_run import write_run

    path = tmp_path_factory.mktemp("runs") / "orl-iddm"
    return write_run(path, subjects=("s29", "s30"), per_prompt=2, failed=(("iddm", 1.0, "s30"),))
