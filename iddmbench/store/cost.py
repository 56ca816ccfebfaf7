"""What a stage cost: seconds, and the most memory that its process held meanwhile."""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

FILE = "cost.json"
UNIT = 1 if sys.platform == "darwin" else 1024
"""Of getrusage's peak, in bytes."""


@dataclass(frozen=True)
class Cost:
    """seconds: wall time. memory: peak resident bytes of the process. device_memory: peak bytes on the GPU, 0 without one."""

    seconds: float
    memory: int
    device_memory: int = 0


@contextmanager
def noted(folder: Path, device: torch.device) -> Iterator[None]:
    """Write into `folder` what the block cost, once it is done."""
    gpu = device.type == "cuda"
    _forget_peak()
    if gpu:
        torch.cuda.init()  # in a worker this may be what asks for the GPU first
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    yield
    if gpu:
        torch.cuda.synchronize(device)
    cost = Cost(time.perf_counter() - start, _peak(), torch.cuda.max_memory_allocated(device) if gpu else 0)
    (folder / FILE).write_text(json.dumps(asdict(cost)))


def read_cost(folder: Path) -> Cost:
    return Cost(**json.loads((folder / FILE).read_text()))


def _forget_peak() -> None:
    """Linux can forget a process's peak; elsewhere it is that of the process so far."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
