"""Environment variables, set for a while or before torch is loaded; and which cores are idle."""

import ctypes
import math
import os
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

WAIT_POLICY = "OMP_WAIT_POLICY"
SAMPLE = 0.2
"""Seconds over which idle cores are looked for."""


def wait_quietly() -> None:
    """Let OpenMP's threads sleep, rather than spin, while they wait for each other. It changes no result.

    On a machine with other busy processes a thread that spins takes the core that the one it waits for needs. The variable is
    read when torch is loaded; it is left alone where the user has set it, and where torch is there already.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault(WAIT_POLICY, "PASSIVE")


def own_cores() -> set[int]:
    """The cores that this process may use."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def free_threads(seconds: float = SAMPLE) -> int:
    """As many threads as cores of this process are idle just now, at least 1; all of them where the system does not tell."""
    cores = own_cores()
    try:
        before = Path("/proc/stat").read_text(encoding="ascii")
        time.sleep(seconds)
        after = Path("/proc/stat").read_text(encoding="ascii")
        return max(1, math.floor(idle_cores(before, after, cores) + 0.5))
    except (OSError, ValueError):
        return len(cores)


def idle_cores(before: str, after: str, cores: Collection[int]) -> float:
    """How many of those cores were idle between two readings of /proc/stat (proc(5): jiffies by state, idle and iowait free).

    Raises ValueError when they hold no time of one of the cores.
    """
    first, last = _times(before), _times(after)
    free = 0.0
    for core in cores:
        if core not in first or core not in last:
            raise ValueError(f"/proc/stat does not name core {core}")
        passed = [b - a for a, b in zip(first[core], last[core], strict=True)]
        total = sum(passed[:8])  # guest time, after it, is part of user time
        free += (passed[3] + passed[4]) / total if total else 1.0
    return free


def _times(text: str) -> dict[int, list[int]]:
    lines = (line.split() for line in text.splitlines() if line.startswith("cpu") and not line.startswith("cpu "))
    return {int(name[3:]): [int(value) for value in values] for name, *values in lines}


def give_back_memory() -> None:
    """Return to the system what this process has freed and its allocator keeps: 0.2 GB after networks were read.

    Does nothing where the allocator is not glibc's.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


@contextmanager
def variables(changes: Mapping[str, str | None]) -> Iterator[None]:
    """These environment variables have these values meanwhile (None: are not set); afterwards all is as it was."""
    before = {name: os.environ.get(name) for name in changes}
    _put(changes)
    try:
        yield
    finally:
        _put(before)


def _put(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
