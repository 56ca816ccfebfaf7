"""A browser for the tests of pages; they are skipped where playwright or a browser is missing."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def chromium(what: str) -> Iterator[Any]:
    """Chromium of the system, or playwright's own. what: is tested, in a skipped test's words."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="the browser tests need playwright: pip install playwright"
    )
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    installed = next((found for name in names if (found := shutil.which(name))), None)
    with sync_api.sync_playwright() as tool:
        try:
            started = tool.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no browser to test the {what} with: install chromium ({str(error).splitlines()[0]})")
        yield started
        started.close()
