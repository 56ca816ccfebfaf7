"""`iddmbench sweep`: many runs, on many workers, resumable."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iddmbench.environ import own_cores
from iddmbench.errors import UserError, first_line, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iddmbench.sweep.plan import Plan
    from iddmbench.track.base import Tracker


def sweep(
    config: Annotated[
        str, typer.Argument(help="A suite (smoke, orl-core, synthetic-core, ablations, study, paper) or a YAML file.")
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting of all runs, KEY=VALUE (subjects=3, strengths=[1])."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Only this run of the file, as named there; may be repeated.")
    ] = None,
    gpu_tflops: Annotated[
        float, typer.Option(help="TFLOP/s that one GPU sustains, for the hours that --dry-run shows.")
    ] = 100.0,
    executor: Annotated[str, typer.Option(help="Where to compute: local, ray or slurm.")] = "local",
    workers: Annotated[
        int, typer.Option(help="Parallel workers; by default one per GPU or per core. More than GPUs share them.")
    ] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads of a worker; by default its share of the cores.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda (all of them), or cuda:0,cuda:1.")] = "cpu",
    timeout: Annotated[float, typer.Option(help="Seconds after which a cell counts as hung; 0 for no limit.")] = 0,
    option: Annotated[
        list[str] | None,
        typer.Option("--executor-option", help="Option for Ray or Slurm, KEY=VALUE (slurm_partition=gpu)."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Treat doubts about the photos as errors and train nothing.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder; by default runs/NAME-HASH.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Cache of stage results; IDDMBENCH_CACHE sets the default.")
    ] = None,
    report: Annotated[bool, typer.Option(help="Draw figures and write report.html of every run.")] = True,
    track: Annotated[
        list[str] | None,
        typer.Option(help="Also log every run to tensorboard, wandb or trackio, as one group; may be repeated."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Hide progress; show only results and problems.")] = False,
) -> None:
    """Run a whole grid: defenses, strengths, people, seeds, base models. Rerun the command to resume after any interruption."""
    from rich.console import Console

    from iddmbench.cli.run import pairs
    from iddmbench.cli.sweep_view import live, show_plan, show_prices
    from iddmbench.store.cache import default_cache
    from iddmbench.sweep.config import load_sweep, parse_changes
    from iddmbench.sweep.driver import check_sweep_folder, run_sweep
    from iddmbench.sweep.executors import EXECUTORS, make_executor
    from iddmbench.sweep.executors.base import Resources
    from iddmbench.sweep.plan import make_plan
    from iddmbench.sweep.task import WorkerSetting
    from iddmbench.track import trackers

    told = trackers(track)
    if executor not in EXECUTORS:
        raise UserError(f"--executor {executor}: choose from {', '.join(EXECUTORS)}")
    if not (math.isfinite(timeout) and timeout >= 0):
        raise UserError(f"--timeout {timeout:g}: give seconds, or 0 for no limit")
    devices = devices_of(device, executor)
    workers, threads = share_of_cores(workers, threads, devices, executor)
    devices = places(devices, workers, executor)
    options = pairs(option, "--executor-option")
    if executor == "local" and options:
        raise UserError("--executor-option is for ray and slurm")
    changes, runs = parse_changes(set_), tuple(dict.fromkeys(only or ()))
    if dry_run:
        if not (math.isfinite(gpu_tflops) and gpu_tflops > 0):
            raise UserError(f"--gpu-tflops {gpu_tflops:g}: give a number above 0")
        show_prices(load_sweep(config, changes, runs, check=False), gpu_tflops, Console(emoji=False))
    wanted = load_sweep(config, changes, runs)
    folder = out or Path("runs") / wanted.folder
    check_sweep_folder(folder, wanted)
    store = cache or default_cache()
    plan = make_plan(wanted, store)
    if dry_run:
        show_plan(wanted, plan, workers, Console(emoji=False))
        return
    _check(plan)
    setting = WorkerSetting(
        {name: run.model_dump(mode="json") for name, run in wanted.runs.items()},
        str(store.resolve()),
        threads,
        devices,
        str((folder / "devices").resolve()),
    )
    resources = Resources(setting, workers, folder.resolve(), timeout or None, options)
    with live(wanted, workers, quiet) as watch:
        failed = run_sweep(wanted, plan, folder, lambda: make_executor(executor, resources), watch, strict)
    if report or told:
        _reports(folder, told)
    typer.echo(f"{plan.cells - failed} of {plan.cells} cells, in {folder}")
    if line := _left_out(folder):
        typer.echo(printable(line))
    if failed:
        raise UserError(
            f"{failed} failed cell(s): `iddmbench status {folder}` lists them, failures.txt in each run has their tracebacks; "
            "rerun the command to retry only them"
        )
    if lost := _without_figures(folder):
        raise UserError(
            f"{len(lost)} time(s) an attacker has no figures (first: {lost[0]}): failures.txt in each run says why; "
            "rerun the command to retry only these"
        )


def _left_out(folder: Path) -> str:
    """What the runs' datasets left out, in one line; empty if nothing."""
    from iddmbench.results.left_out import left_out
    from iddmbench.results.run_folder import LEFT_OUT, RunFolder, runs_of

    return left_out([RunFolder(run).config for run in runs_of(folder)], f"{LEFT_OUT} of each run in {folder / 'runs'}")


def _without_figures(folder: Path) -> list[str]:
    """ "attacker 'mine' has no figures for iddm-0.50", of all runs."""
    from iddmbench.results.run_folder import FAILURES, runs_of

    files = [run / FAILURES for run in runs_of(folder) if (run / FAILURES).is_file()]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [line.removeprefix("== ") for line in lines if line.startswith("== attacker ")]


def devices_of(text: str, executor: str) -> tuple[str, ...]:
    """Torch devices of the workers. Ray and Slurm give each worker its own, which it then sees as the only one."""
    import torch

    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise UserError("--device is empty: give cpu, cuda, or cuda:0,cuda:1")
    if executor != "local" or names == ("cpu",):
        return names
    if names == ("cuda",):
        names = tuple(f"cuda:{i}" for i in range(torch.cuda.device_count())) or names
    for name in names:
        try:
            torch.zeros(1, device=name)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"device '{name}' can't be used: {first_line(error)}") from error
    return names


def share_of_cores(workers: int, threads: int, devices: tuple[str, ...], executor: str) -> tuple[int, int]:
    """Workers and the threads of each. On this machine they share the cores, so that they don't fight over them."""
    if workers < 0 or threads < 0:
        raise UserError("--workers and --threads: give a positive number, or 0 for the default")
    if executor != "local":
        return workers or 4, threads or 1
    cores = len(own_cores())
    if devices == ("cpu",):
        workers = workers or max(1, cores // max(threads, 1) if threads else cores)
    workers = workers or len(devices)
    return workers, threads or max(1, cores // workers)


def places(devices: tuple[str, ...], workers: int, executor: str) -> tuple[str, ...]:
    """The devices, each as often as workers of this machine share it: a small base does not fill a GPU alone."""
    if executor != "local" or devices == ("cpu",) or workers <= len(devices):
        return devices
    return tuple(devices[i % len(devices)] for i in range(workers))


def _check(plan: "Plan") -> None:
    """Raises UserError where something must be computed and can't be."""
    left = {task.run for task in plan.first}
    bases = {run.study.config.base: run for run in plan.runs if run.name in left}
    for run in bases.values():
        run.study.stages.base.check_parts()
        run.study.stages.store.check_writable()


def _reports(folder: Path, told: "Sequence[Tracker]" = ()) -> None:
    """Draw every run, and log it. A tracker that refuses a run would refuse the next."""
    from iddmbench.report.write import write_outputs
    from iddmbench.results.run_folder import runs_of
    from iddmbench.track.record import Record

    for run in runs_of(folder):
        finished = write_outputs(run)
        for tracker in told:
            typer.echo(tracker.log(Record.of(finished, folder.resolve().name)))
