"""axe-core (WCAG A and AA, best practices) finds nothing serious or critical on what people look at, in light and in dark.

Skipped without a browser or the package axe-playwright-python, which brings axe-core. The documentation is looked at where
IDDMBENCH_SITE names a built site, as `.ci/run` does.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import chromium
from synthetic_board import write_board

from iddmbench.leaderboard.site import build_site
from iddmbench.report.write import write_outputs

SCHEMES = ("light", "dark")
REFUSED = ("serious", "critical")
DOCS = ("", "tour/", "metrics/", "formulas/", "reference/python/", "reference/cli/")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("axe_playwright_python", reason="needs axe-core: pip install axe-playwright-python")
    with chromium("pages' accessibility") as started:
        yield started


def found(browser: Any, page: Path, scheme: str, width: int = 1280) -> list[str]:
    """ "color-contrast (serious): <a href=...>", of all that is refused."""
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(bypass_csp=True, viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        opened = context.new_page()
        opened.goto(page.as_uri())
        opened.wait_for_load_state("load")
        violations = Axe().run(opened).response["violations"]
    finally:
        context.close()
    return [
        f"{v['id']} ({v['impact']}): {node['html'][:160]}"
        for v in violations
        if v["impact"] in REFUSED
        for node in v["nodes"][:3]
    ]


def test_what_is_wrong_is_found(browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<html lang=en><title>x</title><main><h1>x</h1><p style='color:#ccc'>pale</p><img src=x></main>")
    assert {line.split(" (")[0] for line in found(browser, page, "light")} == {"color-contrast", "image-alt"}


@pytest.fixture(scope="module")
def report(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_outputs(shutil.copytree(finished_run, tmp_path_factory.mktemp("run") / "run")).path / "report.html"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_the_report(browser: Any, report: Path, scheme: str, width: int) -> None:
    assert found(browser, report, scheme, width) == []


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("board")
    write_board(root / "board")
    build_site(root / "board", root / "site")
    return root / "site"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_board(browser: Any, board: Path, scheme: str) -> None:
    pages = sorted(board.rglob("*.html"))
    shown = [
        board / "index.html",
        *[p for p in pages if p.parent != board][:1],
        *[p for p in pages if p.stem == "methodology"],
    ]
    assert len(shown) >= 2
    assert {str(p.relative_to(board)): found(browser, p, scheme) for p in shown} == {
        str(p.relative_to(board)): [] for p in shown
    }


@pytest.mark.parametrize("page", DOCS)
def test_the_documentation(browser: Any, page: str) -> None:
    site = os.environ.get("IDDMBENCH_SITE")
    if not site:
        pytest.skip("no documentation to look at: build it, and name the folder in IDDMBENCH_SITE")
    schemes = SCHEMES if page in ("", "metrics/") else SCHEMES[:1]
    file = Path(site).resolve() / page / "index.html"
    assert {scheme: found(browser, file, scheme) for scheme in schemes} == {scheme: [] for scheme in schemes}
