"""What the stored results of stages depend on besides their inputs: code numbers of stages, and versions of packages."""

from functools import lru_cache
from importlib.metadata import version

from iddmbench.models.base import BaseModel

CODE = {
    "references": 2,
    "class": 1,
    "prepare": 1,
    "protect": 1,
    "personalize": 2,
    "generate": 1,
    "release": 1,
    "embed": 1,
    "features": 2,
    "utility": 3,
    "public": 1,
    "attributes": 1,
    "denoising": 1,
}
"""Raised by hand when a stage's code changes its result, so that older entries are not reused. They decide; the package's
version does not (docs/protocol.md, "Versions")."""


@lru_cache
def current_versions() -> dict[str, str]:
    """Of other packages that can change a stage's result; part of the keys."""
    return {name: version(name) for name in ("torch", "diffusers", "peft")}


def code(*stages: str) -> dict[str, dict[str, int]]:
    """The code numbers of stages, as part of a key."""
    return {"code": {stage: CODE[stage] for stage in stages}}


def precision_key(base: BaseModel) -> dict[str, str]:
    """As part of a key: nothing for a base in full precision."""
    return {} if base.precision == "fp32" else {"precision": base.precision}
