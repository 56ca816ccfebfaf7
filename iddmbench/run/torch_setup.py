"""The switches of torch that make two runs the same, set by the command line and by the Python functions alike."""

from iddmbench.errors import UserError, first_line


def set_up_torch(device: str = "cpu", threads: int = 0) -> None:
    """Deterministic algorithms, and the number of CPU threads (0 leaves it to torch), for the whole process.

    Raises UserError for a device that can't be used and for a negative number of threads.
    """
    import torch

    if threads < 0:
        raise UserError(f"threads {threads}: give a positive number, or 0 to leave it to torch")
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device '{device}' can't be used: {first_line(error)}") from error
    if threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
