"""The one exception that a user's mistake raises, and what is said of others: the command line prints one line of each."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """A mistake that the user can fix. The message says what is wrong and how to fix it, in one line."""

    @property
    def lines(self) -> tuple[str, ...]:
        """What to print, a line each."""
        return (str(self),)


class UserErrors(UserError):
    """Several mistakes at once, one line each."""

    def __init__(self, lines: Sequence[str]):
        super().__init__("; ".join(lines))
        self._lines = tuple(lines)

    @property
    def lines(self) -> tuple[str, ...]:
        return self._lines


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `known` as a hint: the nearest name first if one is near, else all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    suggestion = f"did you mean '{near[0]}'? " if near else ""
    return f"{suggestion}known: {', '.join(names) or 'none'}"


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its kind, where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def one_line(error: BaseException) -> str:
    """ "RuntimeError: no luck": the kind of an error and its first line; a UserError says enough without its kind."""
    kind, line = type(error).__name__, first_line(error)
    return line if line == kind or isinstance(error, UserError) else f"{kind}: {line}"


def escaped(text: str) -> str:
    """`text` as a terminal shows it and does not obey it: control characters, and those that turn the direction of writing, are
    escaped. Line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def printable(text: str) -> str:
    """`escaped`, in one line."""
    return escaped(" ".join(text.split()))
