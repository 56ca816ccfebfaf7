"""The page of `iddmbench app`: what it answers, and in a real browser, by keyboard alone, with the rest of the web closed."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import chromium
from PIL import Image

from iddmbench.app.measure import answer, example
from iddmbench.errors import UserError


@pytest.mark.parametrize(
    ("photos", "pictures", "attackers", "says"),
    [
        (None, ["a.png"], ["sface"], "at least one photo"),
        (["a.png"], [], ["sface"], "at least one picture"),
        (["a.png"], ["b.png"], [], "at least one attacker"),
        (["absent.png"], ["b.png"], ["sface"], "absent.png"),
    ],
)
def test_what_is_missing_is_said(photos: Any, pictures: Any, attackers: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        answer(photos, pictures, "orl", attackers, tmp_path)


def test_the_example_shows_people_who_do_not_exist(tmp_path: Path) -> None:
    photos, pictures = example(tmp_path)
    assert (len(photos), len(pictures)) == (3, 4)
    assert all(Image.open(path).size[0] >= 64 for path in [*photos, *pictures])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("gradio", reason="the app needs gradio: pip install 'iddmbench[app]'")
    import uvicorn

    from iddmbench.app.page import HOST, build

    server = uvicorn.Server(uvicorn.Config(build(tmp_path_factory.mktemp("app")), host=HOST, port=0, log_level="error"))
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.05)
        yield f"http://{HOST}:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join(20)


@pytest.mark.slow
def test_the_page_by_keyboard(address: str) -> None:
    with chromium("page") as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        asked: list[str] = []
        page.on("requestfinished", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("#measure", timeout=20_000)
        assert "Everything stays on this machine" in page.inner_text("body")
        # Nothing was given: a sentence says so.
        press(page, "measure")
        page.wait_for_function("document.querySelector('#answer').innerText.includes('at least one photo')")
        page.get_by_label("28 people, gray (quick)").focus()
        page.keyboard.press("Space")
        press(page, "example")
        page.wait_for_function("document.body.innerText.includes('picture-same-1')", timeout=20_000)
        page.get_by_label("dlib").focus()
        page.keyboard.press("Space")  # one system is enough here
        press(page, "measure")
        page.wait_for_function("document.querySelector('#answer').innerText.includes('sface names')", timeout=240_000)
        assert "sface names this person first for 2 of 4 pictures" in page.inner_text("#answer")
        table = page.inner_text("#table")
        assert "picture-other-1.png" in table
        assert re.search(r"this person 0\.\d{3}; orl s\d+ 0\.\d{3}; orl s\d+", table), "who else is near, by name"
        elsewhere = [url for url in asked if url.startswith(("http:", "https:")) and not url.startswith(address)]
        assert not elsewhere, "the page loads nothing from other hosts"


def press(page: Any, button: str) -> None:
    """Tab until the button has the focus, then Enter."""
    page.evaluate("document.activeElement && document.activeElement.blur()")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == button:
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"the button {button} can't be reached by keyboard")
