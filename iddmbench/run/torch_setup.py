"""Torch settings that make runs reproducible, for the command line, the Python API and a sweep's workers alike."""

import os
from functools import lru_cache

from iddmbench.environ import free_threads
from iddmbench.errors import UserError, first_line


def set_up_torch(device: str = "cpu", threads: int = 0) -> None:
    """Deterministic algorithms, and the number of CPU threads, for the whole process.

    Args:
        threads: 0 uses as many as there are idle cores (`set_threads`).

    Raises UserError for a device that can't be used and for a negative number of threads.
    """
    import torch

    if threads < 0:
        raise UserError(f"threads {threads}: give a positive number, or 0 to take the idle cores")
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device '{device}' can't be used: {first_line(error)}") from error
    set_threads(threads)


def set_threads(threads: int) -> None:
    """Set the number of CPU threads for torch and OpenCV, and deterministic algorithms.

    0: what OMP_NUM_THREADS says, else as many as cores are idle when it is first asked for, and that number for the rest of the
    process: on a machine whose cores are taken, more threads wait for each other. Equal numbers give equal bits, others do not.
    """
    import cv2
    import torch

    chosen = threads or _chosen()
    if chosen:
        torch.set_num_threads(chosen)
        cv2.setNumThreads(chosen)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Every new tensor would be filled first, so that whoever reads what nothing has written gets the same each time. Nothing
    # here does, and it takes a twentieth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@lru_cache(maxsize=1)
def _chosen() -> int:
    """0 if the user has set OpenMP's threads."""
    import torch

    return 0 if os.environ.get("OMP_NUM_THREADS") else min(free_threads(), torch.get_num_threads())
