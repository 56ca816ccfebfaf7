"""How mistakes and interruptions end: one line on stderr and an exit status. Bugs keep their traceback."""

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from iddmbench.cli.encoding import any_encoding
from iddmbench.errors import UserError, printable
from iddmbench.paths import user_path

USER_ERROR, INTERRUPTED = 2, 130
FULL = {errno.ENOSPC, errno.EDQUOT}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
NO_SUCH_PLACE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}
"""What a path that a user gave can be."""
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # type: ignore[assignment]
"""The parser's own error; typer brings a click of its own or uses the installed one."""


class Commands(TyperGroup):
    """Commands whose paths come with their `~` replaced, whether the shell did so or not (in `--root=~/photos` it doesn't)."""

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        command = super().get_command(ctx, cmd_name)
        callback = getattr(command, "callback", None)
        if command is not None and callback is not None and not isinstance(command, TyperGroup):
            command.callback = _with_user_paths(callback)
        return command


def _with_user_paths(callback: Callable[..., Any]) -> Callable[..., Any]:
    if getattr(callback, "takes_user_paths", False):
        return callback

    @wraps(callback)
    def called(*args: Any, **given: Any) -> Any:
        return callback(*args, **{key: _user_paths(value) for key, value in given.items()})

    called.takes_user_paths = True  # type: ignore[attr-defined]
    return called


def _user_paths(value: Any) -> Any:
    if isinstance(value, Path):
        return user_path(value)
    return type(value)(map(_user_paths, value)) if isinstance(value, list | tuple) else value


class CommandGroup(Commands):
    """The commands of `iddmbench`."""

    def main(self, *args: Any, **extra: Any) -> Any:
        any_encoding()
        return super().main(*args, **extra)

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
            raise _stop(f"error: {text} (see `{asked} --help`)", USER_ERROR) from error
        except KeyboardInterrupt as error:
            raise _stop("interrupted: run the same command again to resume", INTERRUPTED) from error
        except OSError as error:
            if (message := of_system(error)) is None:
                raise
            raise _stop(message, USER_ERROR) from error


def of_system(error: OSError) -> str | None:
    """Message for the operating system's errors that a user can fix; None for others."""
    if error.errno in FULL:
        return f"error: disk is full{_where(error)}: free some space and rerun the command to resume"
    if error.errno == errno.EFBIG:
        return f"error: file too large{_where(error)}: raise the limit (ulimit -f) and rerun the command to resume"
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
