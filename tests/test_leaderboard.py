"""The board and its site: ranks and ties, and that nothing a submitter writes becomes markup, script, link, formula or cell."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_board import CROWD, METHODS, crowd, entry, write_board

from iddmbench.errors import UserError
from iddmbench.leaderboard.board import ENTRIES, HASHES, known_images, places, read_entries
from iddmbench.leaderboard.entry import FILE, EntryShare, read_entry, write_entry
from iddmbench.leaderboard.site import build_site, digest_of, looks
from iddmbench.linking.ranking import METRICS
from iddmbench.report.figures import PALETTE, color

pytest.importorskip("plotly")
EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "{{ 7 * 7 }}{% raw %}",
    "=HYPERLINK(1)",
    "+1 | <b> | [x](javascript:alert(1))",
    "' onmouseover='alert(1)",
    "<a href='javascript:alert(1)'>x</a>",
    "]]> & &amp; \\u003cscript",
)
ALLOWED = {"", "https://example.org/code", "https://arxiv.org/abs/2604.00903"}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    write_board(folder)
    return folder


@pytest.fixture(scope="module")
def site(board: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "site"
    assert build_site(board, out) == 2 + len(METHODS) + 1
    return out


# ---- ranking ----------------------------------------------------------------------------------------------------------


def ranks(*shares: list[float]) -> list[tuple[str, int | None, tuple[str, ...]]]:
    """Places of entries whose subjects have those shares of the hypervolume; their intervals all overlap."""
    entries = []
    for i, areas in enumerate(shares):
        one = entry(f"e{i}", f"E{i}")
        own = {
            f"s{j}": EntryShare(area=a, hits=(0,) * 3, images=(16,) * 3, utility=(1.0,) * 3)
            for j, a in enumerate(areas)
        }
        update = {"value": sum(areas) / len(areas), "low": 0.0, "high": 1.0, "per_subject": own}
        entries.append(one.model_copy(update={"standings": tuple(s.model_copy(update=update) for s in one.standings)}))
    return [(p.entry.id, p.rank, p.tied) for p in places(entries, "worst-case", METRICS[0])]


def test_a_paired_test_tells_entries_apart_not_their_intervals() -> None:
    people = [0.2, 0.9, 0.5, 0.7, 0.3, 0.8, 0.4, 0.6]  # subjects differ far more than the two methods do
    better = [a + 0.05 + 0.001 * i for i, a in enumerate(people)]
    assert ranks(people, better) == [("e1", 1, ()), ("e0", 2, ())]
    # The same means, the differences not of one sign: a tie.
    mixed = [a + d for a, d in zip(people, (0.3, -0.2, 0.25, -0.15, 0.2, -0.1, 0.15, -0.05), strict=True)]
    assert ranks(people, mixed) == [("e1", 1, ("e0",)), ("e0", 1, ("e1",))]
    # Five subjects can't tell anything apart at 5 %, six can.
    assert [r for _, r, _ in ranks(people[:5], better[:5])] == [1, 1]
    assert [r for _, r, _ in ranks(people[:6], better[:6])] == [1, 2]


def test_ties_are_adjusted_for_the_number_of_entries() -> None:
    """Seven subjects have p = 2 / 128 at best: enough for three pairs (Holm), not for six."""
    steps = [[0.1 * k + 0.01 * i for i in range(7)] for k in range(4)]
    assert [r for _, r, _ in ranks(*steps[:3])] == [1, 2, 3]
    assert [r for _, r, _ in ranks(*steps)] == [1, 1, 1, 1]


def test_old_entries_are_refused_in_one_line(tmp_path: Path) -> None:
    write_board(tmp_path, [entry()])
    path = tmp_path / ENTRIES / "iddm-sface" / FILE
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 1', 1))
    with pytest.raises(UserError, match="schema 1, this version reads 2") as caught:
        read_entry(path.parent)
    assert "\n" not in str(caught.value) and "add it again" in str(caught.value)


def test_what_is_unranked_comes_last(board: Path) -> None:
    found = places(read_entries(board), "worst-case", METRICS[0])
    assert [p.entry.id for p in found][-1] == "caat" and found[-1].rank is None
    values = [p.standing.value for p in found[:-1] if p.standing]
    assert values == sorted(values, reverse=True)


# ---- entries ----------------------------------------------------------------------------------------------------------


def test_entries_are_read_as_they_were_written(board: Path) -> None:
    assert {e.id for e in read_entries(board)} == {m[0] for m in METHODS} | {"caat"}
    assert read_entries(board / "nowhere") == []


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda text: text.replace('"subjects": 12', '"subjects": NaN'), "NaN"),
        (lambda text: text.replace('"subjects": 12', '"subjects": 12, "subjects": 13'), "appears twice"),
        (lambda text: text.replace('"iddm-sface"', '"other"', 1), "rename the folder"),
        (lambda text: text.replace("https://example.org/code", "javascript:alert(1)"), "code"),
        (lambda text: text.replace('"worst-case"', '"<script>"', 1), "not a valid entry"),
        (lambda text: text[:-100], "not valid JSON"),
    ],
)
def test_an_entry_that_was_edited_by_hand(tmp_path: Path, change, hint: str) -> None:
    write_board(tmp_path, [entry()])
    path = tmp_path / ENTRIES / "iddm-sface" / FILE
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=hint) as caught:
        read_entry(path.parent)
    assert "\n" not in str(caught.value)


def test_damaged_hashes_are_one_line(tmp_path: Path) -> None:
    write_board(tmp_path, [entry()])
    path = tmp_path / ENTRIES / "iddm-sface" / HASHES
    for text in ('{"iddm-1.00": {"s29/0": ["zz"]}}', '{"iddm-1.00": 3}', '{"x": {"s29/0": ["abcd"]}}', "[]"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"hashes\.json"):
            known_images(tmp_path)
    path.write_text(json.dumps({"iddm-1.00": {"s29/0": ["ab" * 32, "cd" * 32]}}))
    assert known_images(tmp_path)["iddm-sface"].cells["s29/0"][0].shape == (2, 256)


# ---- escapes ----------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Elements with their attributes, and the text of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.script: list[str] = []
        self.inside = False

    def handle_starttag(self, tag, attrs) -> None:
        self.found.append((tag, dict(attrs)))
        self.inside = tag == "script"

    def handle_endtag(self, tag) -> None:
        self.inside = self.inside and tag != "script"

    def handle_data(self, data) -> None:
        if self.inside:
            self.script.append(data)


def parse(path: Path) -> Tags:
    tags = Tags()
    tags.feed(path.read_text(encoding="utf-8"))
    return tags


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of one entry per attack, which stands in every field that takes free text, beside one harmless entry."""
    root = tmp_path_factory.mktemp("evil")
    entries = [entry()]
    for i, text in enumerate(EVIL):
        base = entry(f"evil-{i}", text, added=date(2026, 6, i + 1))
        checked = base.checked.model_copy(update={"notes": (text,), "retrained": (text,), "differences": (text,)})
        attackers = tuple(a.model_copy(update={"title": text, "licence": text, "source": text}) for a in base.attackers)
        changes = {"title": text, "description": text, "authors": (text, text), "unranked": text if i % 2 else ""}
        changes |= {
            "options": {"key": text},
            "command": ("iddmbench", text),
            "checked": checked,
            "attackers": attackers,
        }
        entries.append(base.model_copy(update=changes))
    write_board(root / "board", entries)
    build_site(root / "board", root / "site")
    return root / "site"


def test_text_never_becomes_markup(evil: Path, site: Path) -> None:
    """The same elements with the same kinds of attributes as with harmless text, on every page."""
    kinds = {
        (tag, name) for page in site.rglob("*.html") for tag, attributes in parse(page).found for name in attributes
    }
    elements = {tag for page in site.rglob("*.html") for tag, _ in parse(page).found}
    pages = list(evil.rglob("*.html"))
    assert len(pages) == 3 + len(EVIL)
    for page in pages:
        tags = parse(page)
        assert {tag for tag, _ in tags.found} <= elements, page
        assert {(tag, name) for tag, attributes in tags.found for name in attributes} <= kinds, page
        assert not any(name.startswith("on") for _, attributes in tags.found for name in attributes)
        for tag, attributes in tags.found:
            for name in ("href", "src"):
                link = attributes.get(name) or ""
                assert link in ALLOWED or re.fullmatch(r"[#./\w-]*", link), (page, tag, link)
        for text in tags.script:
            assert "<" not in text and json.loads(text), page
        assert sum(tag == "script" for tag, _ in tags.found) <= 3


def test_text_is_no_template(evil: Path) -> None:
    assert "{{ 7 * 7 }}{% raw %}" in (evil / "submissions" / "evil-4.html").read_text()


def test_data_for_the_scripts_is_the_text_itself(evil: Path) -> None:
    data = json.loads(parse(evil / "index.html").script[-1])
    assert {e["name"] for e in data["entries"].values()} >= set(EVIL)


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        tags = parse(page).found
        policy = next(a["content"] for tag, a in tags if tag == "meta" and a.get("http-equiv"))
        assert policy and policy.startswith("default-src 'none'") and "unsafe-eval" not in policy
        for tag, attributes in tags:
            if tag in ("script", "img", "link"):
                assert not (attributes.get("src") or attributes.get("href") or "").startswith(("http", "//"))
            if tag == "a" and (attributes.get("href") or "").startswith("http"):
                assert "noopener" in (attributes.get("rel") or "")
    style = (site / "assets" / "style.css").read_text()
    assert "url(" not in style and "@import" not in style


def test_csv_has_no_formulas_and_whole_rows(evil: Path) -> None:
    for name in ("leaderboard.csv", "curves.csv"):
        rows = list(csv.reader(io.StringIO((evil / name).read_text(encoding="utf-8"))))
        assert len({len(row) for row in rows}) == 1 and len(rows) > len(EVIL)
        for row in rows:
            for cell in row:
                assert not cell.startswith(("=", "+", "@", "\t")) and (not cell.startswith("-") or float(cell) < 0)


def test_markdown_has_no_markup_but_its_own(evil: Path) -> None:
    text = (evil / "leaderboard.md").read_text(encoding="utf-8")
    bare = re.sub(r"\\.", "", text)
    assert "<script" not in bare and "<img" not in bare and "<b>" not in bare
    links = re.findall(r"\]\(([^)]*)\)", bare)
    assert set(links) <= {f"<{link}>" for link in ALLOWED}
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
    assert cells == {7}


def test_the_feed_is_well_formed(evil: Path, board: Path, tmp_path: Path) -> None:
    space = "{http://www.w3.org/2005/Atom}"
    feed = ET.parse(evil / "feed.xml").getroot()
    titles = [e.findtext(f"{space}title") for e in feed.iter(f"{space}entry")]
    assert set(titles) >= set(EVIL)
    updated = [e.findtext(f"{space}updated") or "" for e in feed.iter(f"{space}entry")]
    assert updated == sorted(updated, reverse=True)
    assert len({e.findtext(f"{space}id") for e in feed.iter(f"{space}entry")}) == len(titles)
    build_site(board, tmp_path / "site", url="https://example.org/board")
    text = (tmp_path / "site" / "feed.xml").read_text()
    assert 'href="https://example.org/board/submissions/iddm-sface.html"' in text


# ---- the site as a whole ------------------------------------------------------------------------------------------------


def test_equal_boards_give_equal_sites(board: Path, site: Path, tmp_path: Path) -> None:
    build_site(board, tmp_path / "again")
    assert digest_of(tmp_path / "again") == digest_of(site)


def test_every_link_leads_somewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for _, attributes in parse(page).found:
            for link in (attributes.get("href"), attributes.get("src")):
                if link and not link.startswith(("http", "#")):
                    target = page.parent / link.partition("#")[0]
                    assert target.is_file(), (page, link)
                    if "#" in link:
                        assert f'id="{link.partition("#")[2]}"' in target.read_text()


def test_pages_say_what_they_rest_on(site: Path) -> None:
    page = (site / "submissions" / "caat.html").read_text()
    for words in (
        "not ranked: 4 of 12 subjects",
        "figures recomputed 2026-05-01",
        "iddmbench run",
        "strongest attacker: dlib",
    ):
        assert words in page
    method = (site / "methodology.html").read_text()
    for words in ("HV =", "PSR =", "U =", "τ =", "most pessimistic", "sign-flip test", "Gaffke", "trusted anchors"):
        assert words in method


def test_tables_stand_without_a_script(site: Path) -> None:
    """The default ranking is in the page itself."""
    text = (site / "index.html").read_text()
    rows = re.findall(r'<tr data-id="([\w-]+)">', text)
    assert len(rows) == len(METHODS) + 1 and rows[0] == "iddm-sface" and rows[-1] == "caat"


def test_an_empty_board_has_a_page(tmp_path: Path) -> None:
    assert build_site(tmp_path / "nothing", tmp_path / "site") == 2
    assert "No submission has been accepted yet" in (tmp_path / "site" / "index.html").read_text()


def test_other_peoples_files_are_not_touched(board: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        build_site(board, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_build_replaces_what_is_gone(tmp_path: Path) -> None:
    write_board(tmp_path / "board", [entry(), entry("second", "Second")])
    build_site(tmp_path / "board", tmp_path / "site")
    write_entry(entry(), tmp_path / "other" / ENTRIES / "iddm-sface")
    build_site(tmp_path / "other", tmp_path / "site")
    assert [p.name for p in (tmp_path / "site" / "submissions").iterdir()] == ["iddm-sface.html"]


def test_submissions_of_a_track_look_different() -> None:
    """Colour and shape are the defense's, on every board; what would be alike differs in filling and dashes."""
    found = looks(crowd())
    assert len({tuple(look.values()) for _, look in found}) == len(CROWD)
    shapes: dict[str, set[tuple[str, str]]] = {}
    for one, look in found:
        shapes.setdefault(one.defense, set()).add((look["color"], look["symbol"].partition("-o")[0].partition("-d")[0]))
        assert look["color"] == color(one.defense)
    assert all(len(own) == 1 for own in shapes.values())
    assert [look for _, look in looks(crowd()[:5])] == [look for _, look in found[:5]], "later ones change nothing"


def test_text_and_curves_stand_out_in_both_themes(site: Path) -> None:
    """WCAG 2.2: text 4.5 to 1, the brightened colours of curves on dark 3 to 1."""

    def luminance(tint: str) -> float:
        parts = [int(tint[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a: str, b: str) -> float:
        low, high = sorted((luminance(a), luminance(b)))
        return (high + 0.05) / (low + 0.05)

    style = (site / "assets" / "style.css").read_text()
    themes = re.findall(r"color-scheme: (?:light|dark);\s+(--ink[^}]*)", style)
    assert len(themes) == 3 and themes[1].split() == themes[2].split()
    for text in themes[:2]:
        theme = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", text))
        for ink, ground in (
            ("ink", "page"),
            ("soft", "page"),
            ("soft", "panel"),
            ("accent", "page"),
            ("accent", "panel"),
        ):
            assert contrast(theme[ink], theme[ground]) >= 4.5, (ink, ground)
        for ink, ground in (("good-ink", "good"), ("warn-ink", "warn"), ("ink", "bar")):
            assert contrast(theme[ink], theme[ground]) >= 4.5, (ink, ground)
        assert contrast(theme["soft"], theme["bar"]) >= 4.5, "intervals lie over the bar"
    dark = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", themes[1]))["page"]
    for tint in PALETTE:
        lighter = "#" + "".join(f"{round(0.72 * int(tint[i : i + 2], 16) + 71):02x}" for i in (1, 3, 5))
        assert contrast(lighter, dark) >= 3
