"""The site in a browser, from file://: sorting, filtering, curves, keyboard, themes, widths; and that no attack runs.

Skipped where playwright or a browser is missing: `pip install playwright`, and Chromium from the system or
`playwright install chromium`.
"""

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from synthetic_board import METHODS, entry, write_board

from iddmbench.leaderboard.site import build_site
from iddmbench.metrics.tradeoff import Point, pareto_front

pytest.importorskip("plotly")
sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the browser tests need playwright: pip install playwright"
)
EVIL = "<img src=x onerror=window.hacked=1><a href='javascript:window.hacked=1'>x</a><b>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    installed = next((found for name in names if (found := shutil.which(name))), None)
    with sync_api.sync_playwright() as tool:
        try:
            started = tool.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no browser to test the site with: install chromium ({str(error).splitlines()[0]})")
        yield started
        started.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    entries = write_board(root / "board")
    other = entry("far", "Elsewhere", track="lfw-sd15-50-0123456789ab", dataset="lfw", base="sd15")
    evil = entry("evil", EVIL[:80], "evil", (0.1, 0.2), (0.9, 0.8), added=date(2026, 6, 1))
    write_board(root / "board", [*entries, other, evil.model_copy(update={"title": EVIL})])
    build_site(root / "board", root / "site")
    return root / "site"


@pytest.fixture
def page(browser: Any, site: Path) -> Iterator[Any]:
    """The front page on a desktop; it fails on any error in the console."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda e: errors.append(str(e)))
    opened.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    requests: list[str] = []
    opened.on("request", lambda r: requests.append(r.url))
    opened.goto(f"file://{site}/index.html")
    opened.wait_for_selector("#curves .legend")
    yield opened
    assert errors == []
    assert all(url.startswith(("file://", "data:", "blob:")) for url in requests)
    context.close()


def names(page: Any) -> list[str]:
    return page.eval_on_selector_all("#board tbody th a", "links => links.map(a => a.textContent)")


def column(page: Any, label: str) -> list[str]:
    return page.eval_on_selector_all(f'#board tbody [data-label="{label}"]', "cells => cells.map(c => c.textContent)")


def legend(page: Any) -> list[str]:
    return page.evaluate("document.getElementById('curves').data.filter(t => t.showlegend !== false).map(t => t.name)")


def test_sorting(page: Any) -> None:
    assert column(page, "Rank")[0].startswith("1") and names(page)[-1] == "CAAT", "by rank, unranked last"
    page.click("th[data-sort=name] button")
    assert names(page) == sorted(names(page), key=str.lower)
    assert page.get_attribute("th[data-sort=name]", "aria-sort") == "ascending"
    page.click("th[data-sort=name] button")
    assert names(page) == sorted(names(page), key=str.lower, reverse=True)
    page.click("th[data-sort=utility] button")
    values = [float(x) for x in column(page, "Utility, strongest")]
    assert values == sorted(values, reverse=True)
    page.click("th[data-sort=utility_at] button")
    shown = column(page, "Utility at privacy ≥ 0.9")
    page.click("th[data-sort=utility_at] button")
    again = column(page, "Utility at privacy ≥ 0.9")
    assert shown[-1] == again[-1] == "–", "what is unknown stays below, whichever way"


def test_filters(page: Any) -> None:
    everything = len(METHODS) + 2
    assert len(names(page)) == everything
    page.fill("#search", "dreambooth")
    assert names(page) == ["ASPL (Anti-DreamBooth)"] and page.inner_text("#status") == "1 row"
    assert "ASPL (Anti-DreamBooth)" in legend(page) and "SimAC" not in legend(page)
    page.fill("#search", "nothing like it")
    assert names(page) == []
    page.fill("#search", "")
    page.check("#ranked")
    assert len(names(page)) == everything - 1 and "CAAT" not in names(page)
    page.uncheck("#ranked")
    page.select_option("#threat", "white-box")
    assert set(column(page, "Judged by")) == {"sface"}
    page.select_option("#threat", "adaptive")
    page.select_option("#judge", "purify:dlib")
    assert len(names(page)) == everything and set(column(page, "Judged by")) == {"purify:dlib"}
    page.select_option("#threat", "worst-case")
    page.select_option("#track", "lfw-sd15-50-0123456789ab")
    assert names(page) == ["Elsewhere"] and column(page, "Rank") == ["1"]


def test_curves_show_the_rows(page: Any) -> None:
    shown = legend(page)
    assert {"Pareto front", "undefended", "not personalized"} <= set(shown)
    assert len(shown) == len(METHODS) + 2 + 3
    before = page.evaluate("document.getElementById('curves').data.find(t => t.name === 'SimAC').y")
    page.select_option("#metric", "r1u")
    after = page.evaluate("document.getElementById('curves').data.find(t => t.name === 'SimAC').y")
    assert before == [0.25, 0.55] and after == pytest.approx([0.18, 0.48])
    bars = page.evaluate("document.getElementById('curves').data.find(t => t.name === 'SimAC').error_y")
    assert bars["arrayminus"] == pytest.approx([0.06, 0.06]) and bars["array"] == pytest.approx([0.05, 0.05])
    assert page.evaluate("document.querySelectorAll('#curves .scatterlayer .trace').length") > len(METHODS)


def test_the_front_is_the_one_of_the_metrics(page: Any) -> None:
    drawn = page.evaluate("document.getElementById('curves').data.find(t => t.name === 'Pareto front')")
    points = [Point(0, 0.13, 1.0)]
    points += [Point(s, p, u) for m in METHODS for s, p, u in zip((0.5, 1.0), m[3], m[4], strict=True)]
    front = pareto_front(points)
    corners = list(zip(drawn["x"], drawn["y"], strict=True))
    assert [(p.utility, p.privacy) for p in front] == corners[1:-1:2]


def test_keyboard(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.focus("th[data-sort=area] button")
    page.keyboard.press("Enter")
    assert page.get_attribute("th[data-sort=area]", "aria-sort") == "descending"
    page.focus("#threat")
    page.keyboard.press("ArrowDown")
    assert column(page, "Judged by")[0] == "dlib, purify:dlib"
    page.keyboard.press("ArrowDown")
    assert column(page, "Judged by")[0] == "dlib"
    assert page.evaluate("[...document.querySelectorAll('a, button, select, input')].every(e => e.tabIndex >= 0)")


def test_themes(page: Any, browser: Any, site: Path) -> None:
    def ground(which: Any) -> str:
        return which.evaluate("getComputedStyle(document.body).backgroundColor")

    light = ground(page)
    page.click("#theme")
    dark = ground(page)
    assert light == "rgb(255, 255, 255)" and dark != light
    assert page.evaluate("document.getElementById('curves').layout.paper_bgcolor") != "#ffffff"
    page.goto(f"file://{site}/methodology.html")
    assert ground(page) == dark, "the choice is kept"
    context = browser.new_context(color_scheme="dark")
    other = context.new_page()
    other.goto(f"file://{site}/index.html")
    assert ground(other) == dark, "without a choice the system decides"
    context.close()


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_no_page_is_wider_than_the_screen(browser: Any, site: Path, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    opened = context.new_page()
    for name in ("index.html", "methodology.html", "submissions/iddm-sface.html", "submissions/evil.html"):
        opened.goto(f"file://{site}/{name}")
        opened.wait_for_timeout(400)
        assert opened.evaluate("document.documentElement.scrollWidth") <= width, name
    context.close()


def test_no_attack_runs(page: Any, site: Path) -> None:
    page.fill("#search", "onerror")
    assert len(names(page)) == 1
    page.hover("#curves .legend")
    page.wait_for_timeout(300)
    for name in ("index.html", "submissions/evil.html"):
        page.goto(f"file://{site}/{name}")
        page.wait_for_selector("#curves .legend")
        assert page.evaluate("window.hacked") is None
        assert page.evaluate("document.querySelectorAll('#curves a[href], #curves image, #board img').length") == 0
    assert EVIL[:80] in page.inner_text("h1")


def test_a_page_of_a_submission_draws_each_attacker(page: Any, site: Path) -> None:
    page.goto(f"file://{site}/submissions/iddm-sface.html")
    page.wait_for_selector("#curves .legend")
    assert {"worst case", "dlib", "sface", "purify:dlib", "undefended"} <= set(legend(page))


def test_without_scripts_the_ranking_stands(browser: Any, site: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(f"file://{site}/index.html")
    assert len(opened.query_selector_all("#board tbody tr")) == len(METHODS) + 2
    assert not opened.is_visible("#filters")
    context.close()
