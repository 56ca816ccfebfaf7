"""The plugins of lab_plugins.py as an installed package, so that worker processes, jobs and commands know them too."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from lab_plugins import PLUGINS

HERE = Path(__file__).parent


def install_package(folder: Path) -> Path:
    """Metadata of a package with their entry points; returns the folder, for PYTHONPATH."""
    info = folder / "lab_plugins-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-plugins\nVersion: 1.0\n")
    groups: dict[str, list[str]] = {}
    for registry, cls in PLUGINS:
        groups.setdefault(registry.group, []).append(f"{cls.name} = lab_plugins:{cls.__name__}")
    text = "".join(f"[{group}]\n" + "\n".join(lines) + "\n" for group, lines in groups.items())
    (info / "entry_points.txt").write_text(text)
    return folder


def environment(package: Path, cache: Path, **more: str) -> dict[str, str]:
    """Of a command or worker that knows the plugins."""
    path = os.pathsep.join([str(package), str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path, "IDDMBENCH_CACHE": str(cache), "OMP_NUM_THREADS": "1", **more}


def know_plugins(patch: pytest.MonkeyPatch, package: Path) -> None:
    """In this process and those that it starts."""
    path = os.pathsep.join([str(package), str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    patch.setenv("PYTHONPATH", path)
    patch.syspath_prepend(str(package))
    patch.setattr(sys, "path", [str(package), *sys.path])


def sweep_of(base: Path, **changes: Any) -> dict[str, Any]:
    """Content of a sweep file: two quick runs that share the anchors of two subjects."""
    content: dict[str, Any] = {
        "name": "quick",
        "dataset": "tiny-orl",
        "base": str(base),
        "subjects": 2,
        "attackers": ["coarse", "fine"],
        "images_per_prompt": 1,
        "runs": {
            "echo": {"defenses": ["echo"], "strengths": [0, 1]},
            "noise": {"defenses": ["random-noise"], "strengths": [1]},
        },
    }
    return content | changes
