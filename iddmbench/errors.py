"""The one exception that a user's mistake raises: the command line prints it as a single line and exits non-zero."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend. The message says what is wrong and how to mend it, in one line."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `known` as a hint: the nearest name first if one is near, else all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    suggestion = f"did you mean '{near[0]}'? " if near else ""
    return f"{suggestion}known: {', '.join(names) or 'none'}"
