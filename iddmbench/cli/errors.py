"""How mistakes and interruptions end: one line on stderr and an exit status. Bugs keep their traceback."""

import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from iddmbench.errors import UserError, printable

USER_ERROR, INTERRUPTED = 2, 130
FULL = {errno.ENOSPC, errno.EDQUOT}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
NO_SUCH_PLACE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}
"""What a path that a user gave can be."""
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # type: ignore[assignment]
"""The parser's own error; typer brings a click of its own or uses the installed one."""


class CommandGroup(TyperGroup):
    """The commands of `iddmbench`."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            with terminable():
                return super().invoke(ctx)
        except UserError as error:
            for line in error.lines[:-1]:
                _say(f"error: {line}")
            raise _stop(f"error: {error.lines[-1]}", USER_ERROR) from error
        except UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command shows its help
                raise
            told: Any = error
            asked = told.ctx.command_path if told.ctx else "iddmbench"
            text = told.format_message().rstrip(".")
            raise _stop(f"error: {text} (`{asked} --help` says more)", USER_ERROR) from error
        except KeyboardInterrupt as error:
            raise _stop("interrupted: the same command resumes where it stopped", INTERRUPTED) from error
        except OSError as error:
            if (message := of_system(error)) is None:
                raise
            raise _stop(message, USER_ERROR) from error


def of_system(error: OSError) -> str | None:
    """What to say of the operating system's errors that a user can mend; None for others."""
    if error.errno in FULL:
        return f"error: disk is full{_where(error)}: free some space, then the same command resumes"
    if error.errno == errno.EFBIG:
        return f"error: file too large{_where(error)}: raise the limit (ulimit -f), then the same command resumes"
    if error.errno in FORBIDDEN:
        return f"error: no permission{_where(error)}: {error.strerror}"
    if error.errno in NO_SUCH_PLACE and error.filename:
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
        return f"error: {name if len(name) < 100 else name[:97] + '...'}: {str(error.strerror).lower()}"
    return None


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: half-made results are removed, and it says how to go on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(message: str, status: int) -> typer.Exit:
    _say(message)
    return typer.Exit(status)


def _say(message: str) -> None:
    typer.echo(printable(message), err=True)


def _where(error: OSError) -> str:
    return f" ({error.filename})" if error.filename else ""
