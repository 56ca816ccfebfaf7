"""What a run's dataset left out, in one line, from its configuration."""

from collections.abc import Iterable, Mapping
from typing import Any

from iddmbench.photos.left_out import left_out_line
from iddmbench.types import Skipped


def left_out(configs: Iterable[Mapping[str, Any]], where: str = "") -> str:
    """Of one run or several, each photo and person once; empty if nothing was. where: what lists all of it."""
    found = [one for config in configs for one in config.get("skipped", [])]
    skipped = dict.fromkeys(Skipped(str(one.get("name", "")), str(one.get("reason", ""))) for one in found)
    return left_out_line(list(skipped), where)
