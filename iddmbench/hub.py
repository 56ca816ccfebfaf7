"""Hugging Face's hub: names of repositories, and its client's errors in one line."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from iddmbench.errors import UserError, first_line

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def check_repo(name: str, option: str) -> None:
    """Raises UserError for what is not OWNER/NAME."""
    if not NAME.fullmatch(name) or len(name) > 96 or name.endswith((".git", "-", ".")):
        raise UserError(f"{option} {name}: give a repository of the hub as OWNER/NAME")


def check_login(what: str, instead: str) -> None:
    """Raises UserError where nothing can be sent: offline mode, or no token. instead: what can be done without."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise UserError(f"{what}: the hub's client is in offline mode (HF_HUB_OFFLINE): unset it, or {instead}")
    if not get_token():
        raise UserError(f"{what}: no Hugging Face token here: run `hf auth login` or set HF_TOKEN, or {instead}")


def endpoint() -> str | None:
    """The address that HF_ENDPOINT gives; None for the client's own."""
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def hub_errors(what: str, repo: str, instead: str) -> Iterator[None]:
    """Whatever the client raises is a UserError. instead: what else can be done."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except UserError:
        raise
    except OfflineModeIsEnabled as error:
        raise UserError(f"{what}: the hub's client is in offline mode (HF_HUB_OFFLINE): {instead}") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        reason = {
            401: f"there is no repository {repo}, or this token may not see it",
            403: f"this token may not do that with {repo}",
            404: f"there is no repository {repo}, or no such revision of it",
        }.get(status or 0, f"the hub answered {status}: {first_line(error)}")
        raise UserError(f"{what}: {reason}: {instead}") from error
    except Exception as error:  # of the network, in whatever library the client uses for it
        raise UserError(f"{what}: the hub can't be reached ({first_line(error)}): {instead}") from error
