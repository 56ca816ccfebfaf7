"""How mistakes and interruptions end: one line on stderr and an exit status. Bugs keep their traceback."""

import errno
from typing import Any

import typer
from typer.core import TyperGroup

from iddmbench.errors import UserError

USER_ERROR, INTERRUPTED = 2, 130
FULL = {errno.ENOSPC, errno.EDQUOT}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class Group(TyperGroup):
    """The commands of `iddmbench`."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except UserError as error:
            for line in error.lines[:-1]:
                _say(f"error: {line}")
            raise _stop(f"error: {error.lines[-1]}", USER_ERROR) from error
        except KeyboardInterrupt as error:
            raise _stop("interrupted: the same command resumes where it stopped", INTERRUPTED) from error
        except OSError as error:
            if error.errno in FULL:
                message = f"error: disk is full{_where(error)}: free some space, then the same command resumes"
                raise _stop(message, USER_ERROR) from error
            if error.errno in FORBIDDEN:
                raise _stop(f"error: no permission{_where(error)}: {error.strerror}", USER_ERROR) from error
            raise


def _stop(message: str, status: int) -> typer.Exit:
    _say(message)
    return typer.Exit(status)


def _say(message: str) -> None:
    typer.echo(" ".join(message.split()), err=True)


def _where(error: OSError) -> str:
    return f" ({error.filename})" if error.filename else ""
