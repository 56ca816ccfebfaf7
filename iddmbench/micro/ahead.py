"""Training batches made ahead of the step that needs them."""

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset


class _Made(Dataset[Any]):
    def __init__(self, make: Callable[[int], Any]):
        self.make = make

    def __getitem__(self, step: int) -> Any:
        return self.make(step)


def ahead(make: Callable[[int], Any], start: int, stop: int, workers: int) -> Iterator[Any]:
    """`make(step)` for start <= step < stop, in order, by so many worker processes (0: by this one, when asked).

    `make` draws from a generator of the step, so that the batches do not depend on the number of workers.
    """
    return iter(
        DataLoader(
            _Made(make),
            batch_size=None,
            sampler=range(start, stop),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            multiprocessing_context="fork" if workers else None,  # the photos are shared, not copied
        )
    )
