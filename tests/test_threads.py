"""Threads wait quietly, are as many as there are idle cores, and equal numbers of them give equal bits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from iddmbench import environ
from iddmbench.environ import free_threads, idle_cores, own_cores
from iddmbench.errors import UserError
from iddmbench.run import torch_setup
from iddmbench.run.torch_setup import set_threads, set_up_torch

ROOT = Path(__file__).parents[1]


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    environment = {**kept, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torch's wheels bring GNU's OpenMP on Linux alone")
def test_torchs_openmp_is_told_before_it_is_loaded() -> None:
    """By its own word; the user's setting goes first, and after torch it would say nothing."""
    show = {"OMP_DISPLAY_ENV": "TRUE"}
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in python("import iddmbench, torch", **show).stderr
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in python("import iddmbench, torch", **show, OMP_WAIT_POLICY="active").stderr
    late = python("import torch, iddmbench, os; print(os.environ.get('OMP_WAIT_POLICY'))")
    assert late.stdout.strip() == "None"


@pytest.mark.slow
def test_waiting_changes_no_bit() -> None:
    code = """
import hashlib, iddmbench
from iddmbench.run.torch_setup import set_threads
set_threads(2)
import torch
torch.manual_seed(0)
from torch import nn
net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 8, 3), nn.Flatten(), nn.LazyLinear(4))
x = torch.randn(8, 3, 32, 32)
net(x).square().sum().backward()
print(hashlib.sha256(b"".join(p.grad.numpy().tobytes() for p in net.parameters())).hexdigest())
"""
    assert python(code, OMP_WAIT_POLICY="active").stdout == python(code).stdout != ""


def stat(*cores: tuple[int, ...]) -> str:
    lines = [f"cpu{k} {' '.join(map(str, values))}" for k, values in enumerate(cores)]
    return "\n".join(["cpu  1 2 3 4 5 6 7 8 9 0", *lines, "intr 5", "ctxt 7", ""])


def test_idle_cores_by_hand() -> None:
    """user nice system idle iowait irq softirq steal guest guest_nice: one core idle, one half, one taken by a neighbour."""
    before = stat((0,) * 10, (100, 0, 0, 50, 0, 0, 0, 0, 90, 0), (5, 0, 0, 5, 0, 0, 0, 0, 0, 0))
    after = stat((0, 0, 0, 15, 5, 0, 0, 0, 0, 0), (110, 0, 0, 60, 0, 0, 0, 0, 100, 0), (5, 0, 0, 5, 0, 0, 0, 20, 0, 0))
    assert idle_cores(before, after, {0, 1, 2}) == pytest.approx(1.5)
    assert idle_cores(before, after, {2}) == 0 and idle_cores(before, before, {0, 1}) == 2
    with pytest.raises(ValueError, match="does not name core 3"):
        idle_cores(before, after, {3})


def test_as_many_threads_as_idle_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= free_threads(0.05) <= len(own_cores())
    for idle, threads in ((0.0, 1), (0.4, 1), (1.2, 1), (1.6, 2), (3.9, 4)):
        monkeypatch.setattr(environ, "idle_cores", lambda *_, idle=idle: idle)
        assert free_threads(0) == threads
    monkeypatch.setattr(environ, "Path", lambda name: Path("/no/such/file"))
    assert free_threads(0) == len(own_cores()), "where the system does not tell"


def test_a_number_holds_and_the_idle_cores_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before, looked = torch.get_num_threads(), []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch_setup, "free_threads", lambda: looked.append(1) or 1)
    torch_setup._chosen.cache_clear()
    try:
        set_threads(2)
        assert torch.get_num_threads() == 2 and not looked
        set_threads(0)
        set_up_torch(threads=0)
        assert torch.get_num_threads() == 1 and len(looked) == 1
        set_threads(3)
        assert torch.get_num_threads() == 3 and torch.are_deterministic_algorithms_enabled()
        torch_setup._chosen.cache_clear()
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        set_threads(0)
        assert torch.get_num_threads() == 3 and len(looked) == 1, "what the user told OpenMP stays"
        with pytest.raises(UserError, match="threads -1: give a positive number, or 0 to take the idle cores"):
            set_up_torch(threads=-1)
    finally:
        torch_setup._chosen.cache_clear()
        torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_memory_goes_back() -> None:
    """In a process of its own: small pieces, every one of them freed but the last, which the allocator would keep."""
    code = """
import ctypes
from iddmbench.environ import give_back_memory
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
pages = lambda: int(open("/proc/self/statm").read().split()[1])
pieces = [c.malloc(60_000) for _ in range(2_000)]
for piece in pieces:
    ctypes.memset(piece, 1, 60_000)
for piece in pieces[:-1]:
    c.free(piece)
before = pages()
give_back_memory()
print((before - pages()) * 4096)
"""
    assert int(python(code).stdout) > 100_000_000
