"""IDDM-Bench: how well can face recognition link the outputs of a personalized diffusion model to a person?"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from iddmbench.environ import wait_quietly

if TYPE_CHECKING:
    from iddmbench.api import (
        Result,
        check,
        compare,
        differences,
        evaluate,
        list_attackers,
        list_datasets,
        list_defenses,
        list_plugins,
        load_dataset,
        open_run,
        register,
        run,
    )

__version__ = "0.1.0"

# In a checkout the plugin folders (attackers/, datasets/, defenses/, leaderboard/) stand beside this package. They are
# part of it, under these names only: a top-level `datasets` would shadow the Hugging Face package.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))
del _root

wait_quietly()  # before anything loads torch

__all__ = [
    "Result",
    "__version__",
    "check",
    "compare",
    "differences",
    "evaluate",
    "list_attackers",
    "list_datasets",
    "list_defenses",
    "list_plugins",
    "load_dataset",
    "open_run",
    "register",
    "run",
]


def __getattr__(name: str) -> Any:
    """The public names of `iddmbench` are loaded on first use."""
    from importlib import import_module

    if name == "run":
        return import_module("iddmbench.run")
    if name not in __all__:
        raise AttributeError(f"module 'iddmbench' has no attribute '{name}'")
    return getattr(import_module("iddmbench.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
