"""Sweeps as a user runs them, in processes of their own: shared work, failures, and being killed at any moment."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from sweep_env import environment, install_package, sweep_of
from tiny_base import write_base

from iddmbench.cli.sweep import places, share_of_cores
from iddmbench.models.base import FRUGAL
from iddmbench.results.run_folder import TABLES, RunFolder
from iddmbench.sweep.worker import own_device, within_memory

CELLS = {"echo": 8, "noise": 6}
"""Two subjects under none and generic, and echo at two strengths or random-noise at one."""
COMMAND = [sys.executable, "-c", "from iddmbench.cli import main; main()"]


@dataclass(frozen=True)
class Place:
    """A base model, installed plugins, and folders of its own."""

    root: Path
    base: Path
    package: Path

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def out(self) -> Path:
        return self.root / "out"

    def start(
        self, *options: str, out: Path | None = None, cache: Path | None = None, **changes: Any
    ) -> subprocess.Popen:
        """`iddmbench sweep` in a process group of its own, so that it can be killed with all that it started."""
        file = self.root / "quick.yaml"
        file.write_text(yaml.safe_dump(sweep_of(self.base, **changes)))
        where = ["--out", str(out or self.out), "--no-report", "--workers", "2", "--threads", "1"]
        return subprocess.Popen(
            [*COMMAND, "sweep", str(file), *where, *options],
            env=environment(self.package, cache or self.cache),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def sweep(self, *options: str, code: int = 0, **changes: Any) -> str:
        child = self.start(*options, **changes)
        output, _ = child.communicate(timeout=600)
        assert child.returncode == code, output
        return output

    def command(self, *arguments: str, code: int = 0) -> str:
        known = environment(self.package, self.cache)
        done = subprocess.run([*COMMAND, *arguments], env=known, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def run(self, name: str) -> RunFolder:
        return RunFolder.open(self.out / "runs" / name)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "log.jsonl").read_text().splitlines()]

    def entries(self, stage: str) -> int:
        return len(list((self.cache / stage).rglob("key.json")))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("sweep")
    return Place(root, write_base(root / "base"), install_package(root / "package"))


@pytest.fixture(scope="module")
def seconds_alone(shared: Place) -> float:
    """How long the sweep takes on this machine when nothing disturbs it."""
    start = time.monotonic()
    output = shared.sweep()
    assert "14 of 14 cells" in output
    return time.monotonic() - start


@pytest.fixture(scope="module")
def finished(shared: Place, seconds_alone: float) -> Place:
    return shared


@pytest.fixture
def place(shared: Place, tmp_path: Path) -> Place:
    return Place(tmp_path, shared.base, shared.package)


def since_last_begin(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    last = max(i for i, event in enumerate(events) if event["event"] == "begin")
    return [event for event in events[last:] if event["event"] == kind]


def same_tables(left: Place, right: Place) -> None:
    for name in CELLS:
        for table in TABLES:
            one, two = (getattr(place.run(name), table) for place in (left, right))
            drop = ["cached", *(c for c in one if c.startswith(("seconds", "peak")))] if table == "cells" else []
            pd.testing.assert_frame_equal(one.drop(columns=drop), two.drop(columns=drop), check_exact=True)


# ---- what it makes ----------------------------------------------------------------------------------------------------


def test_every_run_is_a_run_folder(finished: Place) -> None:
    for name, cells in CELLS.items():
        run = finished.run(name)
        assert len(run.cells) == cells and set(run.cells["status"]) == {"ok"}
        assert (run.cells["peak_memory_mb"] > 50).all() and (run.cells["seconds_personalize"] > 0).all()
        assert all(run.picture(path) is not None for path in run.images["image"])
    assert {event["status"] for event in finished.events() if event["event"] == "cell"} == {"ok"}


def test_shared_work_is_done_once(finished: Place) -> None:
    """The anchors of both runs are the same cells; echo releases images of the undefended model."""
    assert finished.entries("personalize") == 2 + 2 + 2  # none, generic, random-noise
    assert finished.entries("generate") == 6 and finished.entries("release") == 4 and finished.entries("protect") == 2
    assert finished.entries("score") == 2 + 2 + 1
    computed = [e for e in finished.events() if e["event"] == "cell" and not e["cached"]]
    assert len(computed) == 14 - 4 and all(event["worker"] for event in computed)


def test_again_it_computes_nothing(finished: Place) -> None:
    assert "14 of 14" in finished.sweep()
    assert since_last_begin(finished.events(), "cell") == [] == since_last_begin(finished.events(), "score")
    assert finished.run("echo").cells["cached"].all()


def test_dry_run_and_status(finished: Place, place: Place) -> None:
    text = finished.sweep("--dry-run")
    assert "14" in text and "to compute" in text and "About 0 s" in text
    other = place.sweep("--dry-run", "--set", "seeds=[5]", cache=finished.cache)
    assert "About" in other and "GB on disk" in other and not place.out.exists()
    status = finished.command("status", str(finished.out))
    assert "finished" in status and "echo: 8 of 8 cells" in status and "peak memory" in status
    assert "is not a run or sweep folder" in finished.command("status", str(place.root), code=2)


def test_a_folder_of_another_sweep_is_refused(finished: Place) -> None:
    text = finished.sweep("--set", "seeds=[7]", code=2)
    assert "holds another sweep (runs that differ: echo, noise): give another --out, or remove that folder" in text


# ---- what goes wrong --------------------------------------------------------------------------------------------------


def runs(**options: str) -> dict[str, Any]:
    return {"echo": {"defenses": ["echo"], "strengths": [0, 1], "defense_options": options}}


def test_failing_hanging_and_dying_cells_end_no_sweep(finished: Place, place: Place) -> None:
    """Each is listed, with its traceback where it has one, and missing in the tables; the others are done."""
    changes = {"runs": {**runs(fails="s29"), "hang": runs(hangs="s30")["echo"], "die": runs(dies="s31")["echo"]}}
    # A worker's first cell holds its start too, which takes long on a busy machine.
    text = place.sweep("--timeout", "60", "--set", "subjects=3", code=2, cache=finished.cache, **changes)
    assert "6 failed cell(s)" in text
    wanted = {
        "echo": ("s29", "defense 'echo': release failed: RuntimeError: no luck with s29"),
        "hang": ("s30", "TimeoutError"),
        "die": ("s31", "died"),
    }
    for name, (subject, error) in wanted.items():
        run = place.run(name)
        assert set(run.failed["subject"]) == {subject} and len(run.failed) == 2 and len(run.cells) == 12
        assert run.failed["error"].str.contains(error).all()
        echo = run.summary[run.summary["defense"] == "echo"]
        assert set(echo["missing"]) == {1} and set(run.summary[run.summary["defense"] == "none"]["missing"]) == {0}
        assert error in (run.path / "failures.txt").read_text()
    assert "Traceback" in (place.run("echo").path / "failures.txt").read_text()
    status = place.command("status", str(place.out))
    assert status.count("failed") >= 6
    assert "defense 'echo': release failed" in status, (
        "the line is cut at the terminal's width; failures.txt has it all"
    )


def test_again_only_what_failed_is_tried(finished: Place, place: Place) -> None:
    for _ in range(2):
        place.sweep(code=2, cache=finished.cache, runs=runs(fails="s29"))
    tried = since_last_begin(place.events(), "cell")  # in the order in which two workers end
    assert sorted((e["status"], e["name"]) for e in tried) == [
        ("failed", f"echo-{strength} s29 seed 0") for strength in ("0.00", "1.00")
    ]


def test_two_sweeps_in_one_folder(place: Place) -> None:
    first = place.start()
    deadline = time.monotonic() + 120
    while not (place.out / "log.jsonl").exists():
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.1)
    assert f"another process is writing {place.out}" in place.sweep(code=2)
    assert "running" in place.command("status", str(place.out))
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert "stopped" in place.command("status", str(place.out))


def test_two_sweeps_on_one_cache(finished: Place, place: Place) -> None:
    """Both end, agree with the one that was alone, and no stage was computed twice."""
    children = [place.start(out=place.root / name) for name in ("out", "other")]
    for child in children:
        output, _ = child.communicate(timeout=600)
        assert child.returncode == 0, output
    assert [place.entries(stage) for stage in ("personalize", "generate", "release", "score")] == [6, 6, 4, 5]
    same_tables(finished, place)
    other = [json.loads(line) for line in (place.root / "other" / "log.jsonl").read_text().splitlines()]
    computed = [e for e in (*place.events(), *other) if e["event"] == "cell" and not e["cached"]]
    assert len({(e["run"], e["name"]) for e in computed}) >= 10 - 4
    assert not list((place.cache / "tmp").iterdir())


def test_killed_at_random_points(finished: Place, seconds_alone: float, tmp_path: Path) -> None:
    """The driver, or one of its workers, gets SIGKILL again and again; what comes out is what comes out undisturbed.

    A sweep that ends before it was killed often enough is compared, and another begins with an empty cache.
    """
    draw, kills, ended = random.Random(0), {"driver": 0, "worker": 0}, 0
    place = replace(finished, root=tmp_path)
    for attempt in range(60):
        child = place.start()
        victim = "worker" if attempt % 3 == 2 else "driver"
        try:
            child.wait(draw.uniform(0.05, 1) * seconds_alone)
        except subprocess.TimeoutExpired:
            kills[victim] += kill(child, victim)
        child.wait(300)
        child.communicate()
        if child.returncode == 0:
            undisturbed(finished, place)
            if kills["driver"] >= 6 and kills["worker"] >= 2:
                return
            ended += 1
            place = replace(finished, root=tmp_path / str(ended))
            place.root.mkdir()
    pytest.fail(f"in 60 starts, {ended} sweeps ended and only {kills} were killed")


def undisturbed(finished: Place, place: Place) -> None:
    """After all that was done to it, it holds what the one that nobody disturbed holds."""
    assert "14 of 14" in place.sweep()
    same_tables(finished, place)
    assert "0 damaged" in place.command("cache", "verify")
    place.command("cache", "gc")
    assert not list((place.cache / "tmp").iterdir())


def kill(child: subprocess.Popen, victim: str) -> bool:
    """Whether there was one to kill: a driver that starts or ends has no workers."""
    if victim == "driver":
        os.kill(child.pid, signal.SIGKILL)
        return True
    for worker in workers_of(child):
        os.kill(worker, signal.SIGKILL)
        return True
    return False


def workers_of(driver: subprocess.Popen) -> list[int]:
    """Processes forked from the one that has read the large packages, and that have the same command line."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,ppid=,args=", "-g", str(driver.pid)], capture_output=True, text=True
    ).stdout
    found = [line.split(maxsplit=2) for line in listed.splitlines()]
    servers = {pid for pid, parent, command in found if parent == str(driver.pid) and "forkserver" in command}
    return [int(pid) for pid, parent, _ in found if parent in servers]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_full_disk_stops_the_sweep_and_room_resumes_it(finished: Place, place: Place) -> None:
    place.cache.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", place.cache], capture_output=True
    ).returncode:
        pytest.skip("no mounting here")
    try:
        text = place.sweep(code=2)
        assert "No space left on device" in text and "rerun the command to resume" in text and "Traceback" not in text
        subprocess.run(["mount", "-o", "remount,size=500m", place.cache], check=True)
        place.sweep()
        same_tables(finished, place)
    finally:
        subprocess.run(["umount", place.cache], check=False)


def test_a_cache_that_can_not_be_written(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    text = place.sweep(code=2, cache=tmp_path / "file")
    assert "can't be written" in text and "IDDMBENCH_CACHE" in text and "Traceback" not in text


# ---- attackers with models of their own -------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2])
def test_models_of_attackers_are_shared_out_before_scoring(place: Place, processes: int) -> None:
    """Each of them once, whatever runs ask for it, in a sweep and in a run of several processes."""
    attacker, prompt = "resimulate:candidates=3,keys=1:coarse", ["a photo of sks person"]
    runs = {name: {"defenses": ["echo"], "strengths": [1]} for name in ("one", "two")}
    common = {"attackers": ["coarse", attacker], "prompts": prompt, "runs": runs, "subjects": 3}
    if processes == 1:
        place.sweep(**common)
        events = since_last_begin(place.events(), "simulation")
        assert len(events) == 9 and not any(event["error"] for event in events), (
            "of the anchors too, and no run's own process"
        )
        order = [event["event"] for event in place.events()]
        assert order.index("score") > len(order) - 1 - order[::-1].index("attack")
        assert order.index("attack") > len(order) - 1 - order[::-1].index("simulation")
        attacks = since_last_begin(place.events(), "attack")
        assert len(attacks) == 3 == place.entries("attack"), "none, generic and echo, shared by both runs"
        assert not any(event["error"] for event in attacks)
        seen = set(place.run("two").probes["attacker"])
        place.sweep(**common)
        assert not since_last_begin(place.events(), "simulation") + since_last_begin(place.events(), "attack")
    else:
        command = ["run", "--dataset", "tiny-orl", "--base", str(place.base), "--subjects", "3", "--defense", "echo"]
        command += ["--strength", "1", "--no-anchors", "--images-per-prompt", "1", "--prompt", *prompt]
        command += ["--attacker", "coarse", "--attacker", attacker, "--workers", "2", "--out", str(place.root / "run")]
        place.command(*command)
        seen = set(RunFolder.open(place.root / "run").probes["attacker"])
    assert attacker in seen and place.entries("release") == 6
    if processes == 1:  # nobody looks again at models of conditions that are scored
        shutil.rmtree(place.cache / "release")
        place.sweep(**common)
        assert not since_last_begin(place.events(), "simulation") and place.entries("release") == 3


# ---- memory and devices -----------------------------------------------------------------------------------------------


def test_out_of_memory_is_tried_again_with_less() -> None:
    levels: list[int] = []

    def compute(enough: int) -> None:
        if max(levels, default=0) < enough:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore")

    assert within_memory(levels.append, lambda: compute(0)) == () and levels == []
    notes = within_memory(levels.append, lambda: compute(2))
    assert levels == [1, 2, 0] and len(notes) == 2 and "out of memory" in notes[0] and "\n" not in notes[0]
    levels.clear()
    with pytest.raises(torch.OutOfMemoryError):
        within_memory(levels.append, lambda: compute(FRUGAL + 1))
    assert levels == [1, 2, 0]  # the next task starts as if nothing had been


DEVICE = "import sys; from pathlib import Path; from iddmbench.sweep.worker import own_device; "
DEVICE += "print(own_device(('cuda:0', 'cuda:1'), Path(sys.argv[1])), flush=True); sys.stdin.read()"


def test_each_worker_has_a_device_to_itself(tmp_path: Path) -> None:
    """Until it dies: then the next one gets it."""
    assert own_device(("cpu",), tmp_path) == "cpu"
    command = [sys.executable, "-c", DEVICE, str(tmp_path)]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    got = [child.stdout.readline().strip() for child in children]  # type: ignore[union-attr]
    assert sorted(got) == ["cuda:0", "cuda:1"]
    third = subprocess.run(command, input="", capture_output=True, text=True)
    assert third.returncode != 0 and "all of cuda:0, cuda:1 are in use" in third.stderr
    children[0].kill()
    children[0].wait()
    assert subprocess.run(command, input="", capture_output=True, text=True).stdout.strip() == got[0]
    children[1].kill()
    children[1].communicate()


def test_workers_share_a_device_that_is_named_more_than_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DEVICE.replace("cuda:1", "cuda:0"), str(tmp_path)]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [child.stdout.readline().strip() for child in children] == ["cuda:0"] * 2  # type: ignore[union-attr]
    third = subprocess.run(command, input="", capture_output=True, text=True)
    assert third.returncode != 0 and "all of cuda:0 are in use" in third.stderr
    for child in children:
        child.kill()
        child.communicate()


def test_more_workers_than_gpus_share_them() -> None:
    assert places(("cuda:0", "cuda:1"), 2, "local") == ("cuda:0", "cuda:1")
    assert places(("cuda:0", "cuda:1"), 3, "local") == ("cuda:0", "cuda:1", "cuda:0")
    assert places(("cpu",), 8, "local") == ("cpu",)
    assert places(("cuda",), 8, "ray") == ("cuda",)
    assert share_of_cores(4, 1, ("cuda:0",), "local") == (4, 1)
