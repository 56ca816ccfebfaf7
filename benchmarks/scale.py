"""What the harness costs and how it scales, as a Markdown table.

    python benchmarks/scale.py [--write docs/scale.md] [--only PART ...]

    schedule   100,000 cells that do nothing: planned, given to two processes, recorded
    cached     a sweep of 1,008 cells whose stages are all in the cache: scored, then scored again from the cache; peak memory,
               and that of a sweep a quarter as large. Images and embeddings are synthetic, not generated
    workers    real cells of the embedded base (shortened training): the bare stage functions, one worker, two workers

Run it on an idle machine.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()  # before the imports that take long

import numpy as np  # noqa: E402

from iddmbench.cells.utility import UNKNOWN_VALUES  # noqa: E402
from iddmbench.run.config import make_config  # noqa: E402
from iddmbench.sweep.config import Sweep  # noqa: E402
from iddmbench.sweep.executors.base import Resources  # noqa: E402
from iddmbench.sweep.executors.local import LocalExecutor  # noqa: E402
from iddmbench.sweep.task import Task, TaskResult, WorkerSetting  # noqa: E402

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PARTS = ("schedule", "cached", "workers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="Markdown file whose measured part is replaced")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(CHILDREN[options.child](Path(os.environ["BENCHMARK_FOLDER"]))))
        return
    rows: list[tuple[str, str]] = []
    for part in options.only:
        rows += {"schedule": schedule, "cached": cached, "workers": workers}[part]()
    table = "| what | measured |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)
    print(table)
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        options.write.write_text(f"{before}{BEGIN}\n{table}{END}{after}", encoding="utf-8")


# ---- scheduling -------------------------------------------------------------------------------------------------------


def nothing(setting: WorkerSetting, task: Task) -> TaskResult:
    return TaskResult(task, "ok")


def schedule() -> list[tuple[str, str]]:
    """12 people x 83 conditions x 101 seeds."""
    with tempfile.TemporaryDirectory() as folder:
        found = child("schedule", Path(folder))
    rest = found["seconds"] - found["planned"]
    text = f"{found['seconds']:.0f} s ({found['planned']:.0f} s planning, {rest:.0f} s handing out and noting), "
    return [(f"{found['cells']:,} cells that do nothing, two processes", f"{text}peak memory {found['mb']:.0f} MB")]


def schedule_child(folder: Path) -> dict[str, Any]:
    from iddmbench.run.journal import Journal
    from iddmbench.sweep.driver import Watch, compute
    from iddmbench.sweep.plan import make_plan

    start = time.perf_counter()
    strengths = [round(i / 80, 2) for i in range(81)]
    changes = {"defenses": ["iddm"], "strengths": strengths, "subjects": "all", "seeds": list(range(101))}
    config = make_config({"dataset": "orl", "attackers": ["dlib", "sface"], **changes})
    plan = make_plan(Sweep("schedule", "", {"all": config}), folder / "cache")
    planned = time.perf_counter() - start
    resources = Resources(WorkerSetting({}, "", 1), 2, folder, function=nothing)
    with Journal(folder) as journal:
        journal.begin({"all": plan.cells})
        compute(plan, lambda: LocalExecutor(resources), journal, Watch(), folder / "out")
    seconds = time.perf_counter() - start
    return {"cells": plan.cells, "planned": planned, "seconds": seconds, "mb": peak()}


# ---- a cached sweep ---------------------------------------------------------------------------------------------------


def grid(conditions: int, seeds: int) -> Any:
    strengths = [round((i + 1) / conditions, 2) for i in range(conditions)]
    changes = {"defenses": ["iddm"], "strengths": strengths, "subjects": "all", "seeds": list(range(seeds))}
    return make_config({"dataset": "orl", "attackers": ["dlib", "sface"], **changes})


def cached() -> list[tuple[str, str]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder)
        planted = child("plant", whole)
        first = child("aggregate", whole)
        again = child("aggregate", whole)
        cells = again["cells"]
        name = f"{cells:,} cells in the cache ({planted['conditions']} conditions)"
        rows.append((f"{name}: scored and written for the first time", f"{first['seconds']:.0f} s"))
        text = f"{again['seconds']:.1f} s, of it {again['imports']:.1f} s importing packages; peak memory {again['mb']:.0f} MB"
        rows.append((f"{name}: read and written again", text))
        rows.append((f"{name}: first time, peak memory", f"{first['mb']:.0f} MB"))
    with tempfile.TemporaryDirectory() as folder:
        child("plant", Path(folder), BENCHMARK_CONDITIONS="10")
        part = child("aggregate", Path(folder), BENCHMARK_CONDITIONS="10")
        rows.append((f"{part['cells']:,} cells: first time, peak memory", f"{part['mb']:.0f} MB"))
    return rows


def asked() -> Any:
    return grid(int(os.environ.get("BENCHMARK_CONDITIONS", "40")), 2)


def plant_child(folder: Path) -> dict[str, Any]:
    """Entries as the stages would write them, with photos as images and random embeddings."""
    from iddmbench.linking.score import Scoring
    from iddmbench.run.plan import RunPlan
    from iddmbench.store.files import write_arrays, write_embeddings, write_images, write_text
    from iddmbench.types import Embeddings

    config = asked()
    study = RunPlan.of(config, folder / "cache")
    stages = study.stages
    scoring = Scoring.of(stages, config.attackers, study.cells)
    rng = np.random.default_rng(0)
    photos = {s.name: np.concatenate([stages.crops.references(s)] * 4) for s in study.subjects}
    for cell in study.cells:
        n = len(photos[cell.subject.name])
        stages._timed("personalize", stages.model_key(cell), lambda out: write_text(out / "trace.json", "[]"))
        stages._timed("generate", stages.generated_key(cell), partial(write_images, images=photos[cell.subject.name]))
        key = stages.image_key(cell)
        values: dict[str, Any] = {name: rng.random(n) for name in UNKNOWN_VALUES}
        values |= {"detected": np.ones(n, bool), "features": rng.normal(size=(n, 1280)).astype(np.float32)}
        stages.store.fetch("utility", stages.utility._key(key), named("utility.npz", partial(write_arrays, **values)))
        for view in scoring.panel.views:
            vectors = rng.normal(size=(n, view.dim)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            made = Embeddings(vectors, np.ones(n, bool))
            write = partial(write_embeddings, embeddings=made)
            stages._timed("embed", stages._embed_key(view, key), named("embeddings.npz", write))
    _ = scoring.linkers  # the gallery's embeddings are in the cache too
    return {"conditions": len(scoring.conditions)}


def named(name: str, write: Callable[[Path], None]) -> Callable[[Path], None]:
    """What a stage does with its folder: one file of that name."""
    return lambda out: write(out / name)


def aggregate_child(folder: Path) -> dict[str, Any]:
    from iddmbench.sweep.driver import Watch, run_sweep
    from iddmbench.sweep.plan import make_plan

    imports = time.perf_counter() - STARTED
    sweep = Sweep("cached", "", {"all": asked()})
    plan = make_plan(sweep, folder / "cache")
    setting = WorkerSetting({n: c.model_dump(mode="json") for n, c in sweep.runs.items()}, str(folder / "cache"), 1)
    resources = Resources(setting, 2, folder)
    failed = run_sweep(sweep, plan, folder / "out", lambda: LocalExecutor(resources), Watch())
    assert not failed
    return {"cells": plan.cells, "seconds": time.perf_counter() - STARTED, "imports": imports, "mb": peak()}


# ---- real cells -------------------------------------------------------------------------------------------------------


def workers() -> list[tuple[str, str]]:
    """Ten cells (two people under the controls and three strengths of `random-noise`), 40 training steps, one thread each."""
    times = {}
    for name in ("bare", "one", "two"):
        with tempfile.TemporaryDirectory() as folder:
            child("gallery", Path(folder))
            times[name] = child(name, Path(folder))
    bare, one, two = (times[n]["seconds"] for n in ("bare", "one", "two"))
    cells = times["bare"]["cells"]
    ready_one, ready_two = (times[n]["working"] for n in ("one", "two"))
    return [
        (f"{cells} real cells, bare stage functions, one thread", f"{bare:.1f} s"),
        (
            "the same through the harness, one worker",
            f"{ready_one:.1f} s of work, {ready_one / bare - 1:+.1%}; {one:.1f} s with start and end",
        ),
        (
            "the same, two workers",
            f"{ready_two:.1f} s of work, {ready_one / ready_two:.2f} x one; {two:.1f} s with start and end",
        ),
        ("cells per hour, one and two workers", f"{3600 * cells / ready_one:.0f} and {3600 * cells / ready_two:.0f}"),
    ]


def real_config() -> Any:
    changes = {"defenses": ["random-noise"], "strengths": [0.3, 0.6, 1.0], "subjects": 2, "anchors": True}
    return make_config({"dataset": "orl", "attackers": ["dlib", "sface"], "lora": {"steps": 40}, **changes})


def gallery_child(folder: Path) -> dict[str, Any]:
    """What is computed once per cache is no part of the comparison."""
    from iddmbench.linking.score import Scoring
    from iddmbench.run.plan import RunPlan

    study = RunPlan.of(real_config(), folder / "cache")
    _ = Scoring.of(study.stages, real_config().attackers, study.cells).linkers
    return {}


def bare_child(folder: Path) -> dict[str, Any]:
    """The stage functions one after another, and the scores of each condition."""
    from iddmbench.linking.score import Scoring
    from iddmbench.run.plan import RunPlan
    from iddmbench.run.torch_setup import set_threads

    set_threads(1)
    study = RunPlan.of(real_config(), folder / "cache")
    scoring = Scoring.of(study.stages, real_config().attackers, study.cells)
    _ = scoring.linkers
    study.stages.base.load()
    start = time.perf_counter()
    for cell in study.cells:
        scoring.compute(cell)
    for condition in scoring.conditions:
        scoring.tables(condition)
    return {"seconds": time.perf_counter() - start, "cells": len(study.cells)}


def harness_child(folder: Path, count: int) -> dict[str, Any]:
    """seconds: all of it. working: without the start of the workers (import of packages, base model, galleries)."""
    from iddmbench.sweep.driver import Watch, run_sweep
    from iddmbench.sweep.plan import make_plan

    start = time.perf_counter()
    sweep = Sweep("real", "", {"all": real_config()})
    plan = make_plan(sweep, folder / "cache")
    setting = WorkerSetting({n: c.model_dump(mode="json") for n, c in sweep.runs.items()}, str(folder / "cache"), 1)
    resources = Resources(setting, count, folder, function=warm)
    first: list[float] = []
    watch = Watch(result=lambda result: first.append(time.perf_counter() - result.seconds))
    assert not run_sweep(sweep, plan, folder / "out", lambda: LocalExecutor(resources), watch)
    return {"seconds": time.perf_counter() - start, "working": time.perf_counter() - min(first), "cells": plan.cells}


def warm(setting: WorkerSetting, task: Task) -> TaskResult:
    """A task whose seconds begin once the worker is ready."""
    from iddmbench.run.torch_setup import set_threads
    from iddmbench.sweep.worker import _open, _Run, work

    set_threads(setting.threads)
    _open(_Run(setting, task.run)).study.stages.base.load()
    return work(setting, task)


# ---- helpers ----------------------------------------------------------------------------------------------------------

CHILDREN = {
    "schedule": schedule_child,
    "plant": plant_child,
    "aggregate": aggregate_child,
    "gallery": gallery_child,
    "bare": bare_child,
    "one": lambda folder: harness_child(folder, 1),
    "two": lambda folder: harness_child(folder, 2),
}


def child(name: str, folder: Path, **environment: str) -> dict[str, Any]:
    """Measure in a fresh process, so that peak memory and imports are its own."""
    command = [sys.executable, __file__, "--child", name]
    known = {**os.environ, "BENCHMARK_FOLDER": str(folder), **environment}
    done = subprocess.run(command, env=known, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def peak() -> float:
    """Of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main()
