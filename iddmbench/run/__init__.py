"""Running: configuration, plan, pipeline, writing. The package is callable too: `iddmbench.run(...)` is `iddmbench.api.run`.

A package's attribute of a sub-package's name is always the sub-package once that is imported, so it can't be a function.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iddmbench.result import Result


class _Callable(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> "Result":
        """See `iddmbench.api.run`."""
        from iddmbench.api import run

        return run(*args, **options)


sys.modules[__name__].__class__ = _Callable
