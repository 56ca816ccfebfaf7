"""What every plugin has to keep, ours and third parties': `iddmbench check attacker NAME`, and the tests, run the same checks.

A check is a function that takes what it looks at and raises `AssertionError` with a sentence when the plugin breaks it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from iddmbench.errors import UserError, one_line


class Skip(Exception):
    """A check does not apply to this plugin; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """name: of the check. state: "ok", "failed" or "skipped". message: what is wrong, or why it was skipped."""

    name: str
    state: str
    message: str = ""


def run_checks(checks: list[Callable[[Any], None]], subject: Any) -> Iterator[Outcome]:
    """All checks in order; one that fails, or raises anything else, does not stop the others."""
    for check in checks:
        name = title(check)
        try:
            check(subject)
        except Skip as reason:
            yield Outcome(name, "skipped", str(reason))
        except AssertionError as error:
            yield Outcome(name, "failed", str(error) or "it does not hold")
        except UserError as error:
            yield Outcome(name, "failed", str(error))
        except Exception as error:
            yield Outcome(name, "failed", f"it raised {one_line(error)}")
        else:
            yield Outcome(name, "ok")


def title(check: Callable[[Any], None]) -> str:
    return check.__name__.replace("_", " ")


def require(holds: object, message: str) -> None:
    """Raise AssertionError, also under `python -O`."""
    if not holds:
        raise AssertionError(message)
