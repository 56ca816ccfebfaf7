"""Who may import whom: each floor uses only the floors below it, and a folder's own files. Lazy imports count too."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLUGINS = ("attackers", "datasets", "defenses", "leaderboard")
"""Folders beside the package that are imported under its name."""

FLOORS = (
    ("errors", "__version__"),
    ("types", "seeds", "environ", "options", "paths", "archives", "yaml_text", "onnx_file", "wheel_files", "hub"),
    ("registry", "guards", "protocols"),
    ("plugins",),
    ("store", "faces", "models"),
    ("metrics", "nets", "personalize"),
    ("photos", "weights", "defense"),
    ("synthetic", "perturb", "attacker", "judges"),
    ("datasets", "defenses", "adaptive"),
    ("attackers", "micro", "results"),  # eigenfaces and the base models are trained on a dataset's photos
    ("cells", "report", "track"),
    ("linking",),
    ("run",),
    ("submission", "sweep", "conformance"),
    ("export", "result"),
    ("api",),
    ("leaderboard", "app"),
    ("cli",),
)
"""From the ground up. Folders and modules of one floor don't import each other."""

ALLOWED = {
    ("run", "api"): "run/__init__.py: `iddmbench.run(...)` is `iddmbench.api.run`, and the package's name is taken",
    ("run", "result"): "what that returns, for the type checker only",
}
"""Imports that climb, and why."""

FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def sources() -> Iterator[tuple[str, Path]]:
    """(folder or module below `iddmbench`, file) of every source file; the package's own two faces aside."""
    for path in sorted((ROOT / "iddmbench").rglob("*.py")):
        parts = path.relative_to(ROOT / "iddmbench").with_suffix("").parts
        if parts not in (("__init__",), ("__main__",)):
            yield parts[0], path
    for folder in PLUGINS:
        yield from ((folder, path) for path in sorted((ROOT / folder).rglob("*.py")))


def imported(source: str) -> set[str]:
    """Folders and modules below `iddmbench` that a file imports, at its top or lazily."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "iddmbench":
            names = [f"iddmbench.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("iddmbench.")}
    return found


def climbs(user: str, used: str) -> bool:
    return user != used and FLOOR[used] >= FLOOR[user]


def test_each_floor_uses_only_the_floors_below() -> None:
    found = {
        f"{path.relative_to(ROOT)} imports iddmbench.{used}"
        for user, path in sources()
        for used in imported(path.read_text(encoding="utf-8"))
        if climbs(user, used) and (user, used) not in ALLOWED
    }
    assert not found, "\n".join(sorted(found))


def test_every_folder_has_a_floor_and_every_exception_is_needed() -> None:
    names = {user for user, _ in sources()}
    assert names | {"__version__"} == set(FLOOR)
    edges = {(user, used) for user, path in sources() for used in imported(path.read_text(encoding="utf-8"))}
    assert set(ALLOWED) <= edges and all(climbs(*edge) for edge in ALLOWED)


def test_a_climb_is_seen_in_every_way_of_importing() -> None:
    text = "import iddmbench.cli.run\nfrom iddmbench import api\ndef f():\n    from iddmbench.linking.score import Scoring\n"
    assert imported(text) == {"cli", "api", "linking"}
    assert climbs("store", "linking") and not climbs("linking", "store") and not climbs("store", "store")


def test_reports_read_results_alone() -> None:
    """A run that another program wrote can be drawn."""
    lines = [line for user, path in sources() if user == "report" for line in path.read_text("utf-8").splitlines()]
    used = {line for line in lines if line.startswith("from iddmbench.")}
    others = {line for line in used if line.split(".")[1].split(" ")[0] not in ("report", "results", "errors", "types")}
    assert others == {
        "from iddmbench.store.files import write_bytes",
    }


def test_linking_needs_galleries_and_no_stages() -> None:
    """All of it but the two files that fetch what the stages made takes embeddings, identities and roles."""
    for path in (ROOT / "iddmbench" / "linking").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert path.name in ("score.py", "attacks.py") or "CellStages" not in text, path.name
        assert not imported(text) & {"personalize", "perturb", "run", "datasets"}, path.name


def test_writing_computes_nothing() -> None:
    """Figures are made before `iddmbench/run/write.py` is called: it sees tables and folders."""
    text = (ROOT / "iddmbench" / "run" / "write.py").read_text(encoding="utf-8")
    assert not imported(text) & {"cells", "linking", "metrics", "attacker", "adaptive"}


def test_the_way_from_the_command_line_to_a_table_is_five_files() -> None:
    """As CONTRIBUTING.md says: each imports the next, and `metrics`, `linker` and `personalize` stand behind them."""
    way = ["cli/run.py", "run/pipeline.py", "cells/stages.py", "linking/score.py", "linking/aggregate.py"]
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    places = [page.index(f"| `iddmbench/{file}` |") for file in way]
    assert places == sorted(places)
    callers = {**dict(zip(way[1:], way, strict=False)), "linking/score.py": "run/pipeline.py"}  # pipeline calls both
    for file, caller in callers.items():
        text = (ROOT / "iddmbench" / caller).read_text(encoding="utf-8")
        assert f"iddmbench.{file.removesuffix('.py').replace('/', '.')}" in text, f"{caller} does not import {file}"


PLUGINS_OWN = {"SFace", "SFaceNet", "Blur", "Threshold"}
"""Plugins are called what they are: one network in two packages, a treatment as a defense and against one."""


def test_a_type_has_a_name_of_its_own() -> None:
    found: dict[str, list[str]] = {}
    for _, path in sources():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: places for name, places in found.items() if len(places) > 1 and name not in PLUGINS_OWN} == {}
