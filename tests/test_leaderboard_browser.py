"""The site in a browser, from file://: sorting, filtering, curves, keyboard, themes, widths; and that no attack runs.

Skipped where playwright or a browser is missing: `pip install playwright`, and Chromium from the system or
`playwright install chromium`.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from browsers import chromium
from synthetic_board import CROWD, METHODS, crowd, entry, write_board

from iddmbench.leaderboard.site import build_site

pytest.importorskip("plotly")
EVIL = "<img src=x onerror=window.hacked=1><a href='javascript:window.hacked=1'>x</a><b>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium("site") as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    entries = write_board(root / "board")
    other = entry("far", "Elsewhere", track="lfw-sd15-50-0123456789ab", dataset="lfw", base="sd15")
    evil = entry("evil", EVIL[:80], "evil", (0.1, 0.2), (0.9, 0.8), added=date(2026, 6, 1))
    write_board(root / "board", [*entries, other, evil.model_copy(update={"title": EVIL})])
    build_site(root / "board", root / "site")
    return root / "site"


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A track of twenty submissions, the first of them judged by fourteen attackers."""
    root = tmp_path_factory.mktemp("crowd")
    first, *rest = crowd()
    facts = [first.attackers[2].model_copy(update={"name": f"finetune:system-{i}"}) for i in range(11)]
    figures = [
        f.model_copy(update={"attacker": a.name}) for a in facts for f in first.figures if f.attacker == "purify:dlib"
    ]
    changes = {"attackers": (*first.attackers, *facts), "figures": (*first.figures, *figures)}
    write_board(root / "board", [first.model_copy(update=changes), *rest])
    build_site(root / "board", root / "site")
    return root / "site"


@pytest.fixture
def phone(browser: Any, crowded: Path) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 320, "height": 640}, has_touch=True)
    opened = context.new_page()
    opened.goto(f"file://{crowded}/index.html")
    opened.wait_for_selector("#key button")
    yield opened
    context.close()


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
    opened.wait_for_selector("#key button")
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
    page.check("#bars")
    bars = page.evaluate("document.getElementById('curves').data.find(t => t.name === 'SimAC').error_y")
    assert bars["arrayminus"] == pytest.approx([0.06, 0.06]) and bars["array"] == pytest.approx([0.05, 0.05])
    assert page.evaluate("document.querySelectorAll('#curves .scatterlayer .trace').length") > len(METHODS)


def test_the_front_holds_the_points_that_no_other_beats(page: Any) -> None:
    drawn = page.evaluate("document.getElementById('curves').data.find(t => t.name === 'Pareto front')")
    points = {(1.0, 0.13), *((u, p) for m in METHODS for p, u in zip(m[3], m[4], strict=True))}
    front = [a for a in points if not any(b[0] >= a[0] and b[1] >= a[1] for b in points - {a})]
    corners = list(zip(drawn["x"], drawn["y"], strict=True))
    assert sorted(front, reverse=True) == corners[1:-1:2]


def test_keyboard(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.focus("th[data-sort=area] button")
    page.keyboard.press("Enter")
    assert page.get_attribute("th[data-sort=area]", "aria-sort") == "descending"
    page.focus("#threat")
    page.keyboard.press("ArrowDown")
    assert column(page, "Judged by")[0] == "purify:dlib"
    page.keyboard.press("ArrowDown")
    assert column(page, "Judged by")[0] == "dlib"
    assert page.evaluate("[...document.querySelectorAll('a, button, select, input')].every(e => e.tabIndex >= 0)")


def test_themes(page: Any, browser: Any, site: Path) -> None:
    def ground(which: Any) -> str:
        return which.evaluate("getComputedStyle(document.body).backgroundColor")

    light = ground(page)
    sign = "document.querySelector('#board .sign path').getAttribute('stroke')"
    before = page.evaluate(sign)
    page.click("#theme")
    dark = ground(page)
    assert page.evaluate(sign) != before, "signs are brighter on a dark page"
    assert light == "rgb(255, 255, 255)" and dark != light
    assert page.evaluate("document.getElementById('curves').layout.paper_bgcolor") != "#ffffff"
    page.goto(f"file://{site}/methodology.html")
    assert ground(page) == dark, "the choice is kept"
    context = browser.new_context(color_scheme="dark")
    other = context.new_page()
    other.goto(f"file://{site}/index.html")
    assert ground(other) == dark, "without a choice the system decides"
    context.close()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_page_is_wider_than_the_screen(browser: Any, site: Path, crowded: Path, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    opened = context.new_page()
    pages = [
        site / n for n in ("index.html", "methodology.html", "submissions/iddm-sface.html", "submissions/evil.html")
    ]
    for path in (*pages, crowded / "index.html", crowded / "submissions" / "e00.html"):
        opened.goto(f"file://{path}")
        opened.wait_for_timeout(400)
        assert opened.evaluate("document.documentElement.scrollWidth") <= width, path
    context.close()


TARGETS = (
    "nav a, .crumb a, .latest a, #board tbody a, dd > a, .badge a, button, select, input[type=search], label.check"
)


def test_fingers_find_what_they_press(phone: Any, crowded: Path) -> None:
    """24 pixels at least, as WCAG 2.2 asks, for what does not stand inside a sentence."""
    small = """s => [...document.querySelectorAll(s)].filter(e => e.offsetParent && e.getBoundingClientRect().height < 24)
        .map(e => `${e.tagName} ${e.textContent} ${e.getBoundingClientRect().height}`)"""
    for name in ("index.html", "methodology.html", "submissions/e00.html"):
        phone.goto(f"file://{crowded}/{name}")
        phone.wait_for_timeout(300)
        assert phone.evaluate(small, TARGETS) == []


def test_a_phone_shows_cards_and_sorts_them(phone: Any) -> None:
    assert len(names(phone)) == len(CROWD) and not phone.is_visible("#board thead")
    inside = """[...document.querySelectorAll('#board td, #board th')].every(e => e.offsetParent === null
        || (e.scrollWidth <= e.clientWidth + 1 && e.getBoundingClientRect().right <= innerWidth))"""
    assert phone.evaluate(inside), "no cell is cut"
    assert phone.is_visible("#sort")
    phone.select_option("#sort", "utility")
    values = [float(x) for x in column(phone, "Utility, strongest")]
    assert values == sorted(values, reverse=True)
    phone.select_option("#sort", "name")
    assert names(phone) == sorted(names(phone), key=str.lower)


def test_a_finger_on_the_curves_scrolls_the_page(phone: Any, page: Any) -> None:
    assert phone.evaluate("document.getElementById('curves').layout.dragmode") is False
    assert page.evaluate("document.getElementById('curves').layout.dragmode") == "zoom"


def test_a_wide_table_keeps_its_first_column(phone: Any, crowded: Path) -> None:
    phone.goto(f"file://{crowded}/submissions/e00.html")
    table = "document.querySelector('section[aria-labelledby=privacy] .scroll')"
    boxes = f"[...{table}.querySelectorAll('th[scope=row]')].map(e => e.getBoundingClientRect().left)"
    before = phone.evaluate(boxes)
    moved = phone.evaluate(f"(e => {{ e.scrollLeft = 200; return e.scrollLeft }})({table})")
    assert moved == 200 and phone.evaluate(boxes) == before


def test_twenty_submissions(browser: Any, crowded: Path) -> None:
    """Each has a sign of its own, the same in table and plot; intervals wait until somebody asks; one can be followed."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.goto(f"file://{crowded}/index.html")
    opened.wait_for_selector("#key button")
    drawn = "document.getElementById('curves').data.filter(t => t.marker && t.line)"
    looks = opened.evaluate(f"{drawn}.map(t => [t.marker.color, t.marker.symbol, t.line.dash].join())")
    assert len(looks) == len(set(looks)) == len(CROWD)
    assert len(opened.query_selector_all("#key button")) == len(CROWD) + 3
    assert not opened.is_checked("#bars") and opened.evaluate(f"{drawn}.every(t => !t.error_y && !t.texttemplate)")
    opened.check("#bars")
    assert opened.evaluate(f"{drawn}.every(t => t.error_y)")
    signs = "[...document.querySelectorAll(s)].map(e => e.querySelector('.sign path')?.outerHTML)"
    in_key, in_table = (opened.evaluate(f"(s => {signs})('{s}')") for s in ("#key button", "#board tbody th"))
    assert set(in_table) <= set(in_key)
    # Press a name: its curve goes, and comes back.
    opened.click("#key button:has-text('mist of group 6')")
    seen = "document.getElementById('curves').data.filter(t => t.name === 'mist of group 6').map(t => t.visible)"
    assert opened.evaluate(seen) == [False]
    assert opened.get_attribute("#key button:has-text('mist of group 6')", "aria-pressed") == "false"
    opened.click("#key button:has-text('mist of group 6')")
    assert opened.evaluate(seen) == [True]
    # Point at its row: the others fade.
    opened.hover("#board tr[data-id=e05]")
    opened.wait_for_timeout(200)
    bright = (
        "document.getElementById('curves').data.filter(t => t.opacity === 1 && t.marker && t.line).map(t => t.name)"
    )
    assert opened.evaluate(bright) == ["mist of group 6"]
    opened.check("#enlarge")
    low, high = opened.evaluate("document.getElementById('curves').layout.xaxis.range")
    assert low > 0 and high <= 1.06, "without the un-personalized model at 0"
    opened.fill("#search", "iddm")
    assert len(names(opened)) == CROWD.count("iddm")
    context.close()


def test_a_page_of_many_attackers_hides_adaptive_ones_at_first(page: Any, crowded: Path) -> None:
    page.goto(f"file://{crowded}/submissions/e00.html")
    page.wait_for_selector("#key button")
    state = "document.getElementById('curves').data.map(t => [t.name, t.visible, t.line && t.line.dash])"
    lines = {name: (visible, dash) for name, visible, dash in page.evaluate(state)}
    assert lines["strongest attacker"] == (True, "solid") and lines["strongest attacker, adaptive too"] == (
        True,
        "dash",
    )
    assert lines["dlib"] == (True, "solid") and lines["sface"] == (True, "dot"), "dotted: white-box"
    assert [v for n, (v, _) in lines.items() if n.startswith("finetune")] == [False] * 11
    page.click("#key button:has-text('finetune:system-3')")
    assert page.evaluate("document.getElementById('curves').data.find(t => t.name === 'finetune:system-3').visible")


def test_no_attack_runs(page: Any, site: Path) -> None:
    page.fill("#search", "onerror")
    assert len(names(page)) == 1
    page.hover("#key button")
    page.wait_for_timeout(300)
    for name in ("index.html", "submissions/evil.html"):
        page.goto(f"file://{site}/{name}")
        page.wait_for_selector("#key button")
        assert page.evaluate("window.hacked") is None
        assert page.evaluate("document.querySelectorAll('#curves a[href], #curves image, #board img').length") == 0
    assert EVIL[:80] in page.inner_text("h1")


def test_a_page_of_a_submission_draws_each_attacker(page: Any, site: Path) -> None:
    page.goto(f"file://{site}/submissions/iddm-sface.html")
    page.wait_for_selector("#key button")
    assert {"strongest attacker", "dlib", "sface", "purify:dlib", "undefended"} <= set(legend(page))


def test_without_scripts_the_ranking_stands(browser: Any, site: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(f"file://{site}/index.html")
    assert len(opened.query_selector_all("#board tbody tr")) == len(METHODS) + 2
    assert not opened.is_visible("#filters")
    context.close()
