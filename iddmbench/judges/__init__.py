"""Networks that judge images beside the ones that ship: each needs weights that are fetched, and most a package."""

from collections.abc import Sequence
from functools import lru_cache

from iddmbench.errors import UserError, did_you_mean
from iddmbench.judges.base import Judge
from iddmbench.judges.clip import Clip
from iddmbench.judges.deepface import FdfrAndIsm
from iddmbench.judges.dino import Dino
from iddmbench.judges.inception import Inception
from iddmbench.judges.perceptual import Lpips

JUDGES: dict[str, type[Judge]] = {cls.name: cls for cls in (Inception, Clip, Dino, Lpips, FdfrAndIsm)}


def judge_of(name: str) -> type[Judge]:
    """Raises UserError for an unknown one."""
    if name not in JUDGES:
        raise UserError(f"unknown judge '{name}': {did_you_mean(name, JUDGES)}")
    return JUDGES[name]


@lru_cache(maxsize=1)
def _built(device: str) -> tuple[Judge, ...]:
    return tuple(cls(device) for cls in JUDGES.values())


def available(device: str = "cpu") -> tuple[Judge, ...]:
    """Those that can run here."""
    return tuple(judge for judge in _built(device) if not judge.problem())


def unmeasured(judges: Sequence[Judge]) -> str:
    """One line: the metrics of all judges but those, each with the command that gets it; empty if none is missing."""
    present = {judge.name for judge in judges}
    missing = [f"{cls.measures} ({cls.command()})" for name, cls in JUDGES.items() if name not in present]
    return "; ".join(missing)
