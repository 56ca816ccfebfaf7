"""Experiment trackers: what a finished run is logged to, beside its own folder (`--track`)."""

from collections.abc import Iterable

from iddmbench.errors import UserError, did_you_mean
from iddmbench.track.base import Tracker
from iddmbench.track.tensorboard import TensorBoard
from iddmbench.track.trackio import Trackio
from iddmbench.track.wandb import WeightsAndBiases

TRACKERS: dict[str, type[Tracker]] = {cls.name: cls for cls in (TensorBoard, WeightsAndBiases, Trackio)}


def trackers(names: Iterable[str] | None) -> tuple[Tracker, ...]:
    """Those of that name, ready to log to. Raises UserError for an unknown one, or without its package or login."""
    found = []
    for name in dict.fromkeys(names or ()):
        if name not in TRACKERS:
            raise UserError(f"--track {name}: {did_you_mean(name, TRACKERS)}")
        tracker = TRACKERS[name]()
        tracker.check()
        found.append(tracker)
    return tuple(found)
