"""One picture of a run: what each defense's outputs look like, beside the photos that went in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from iddmbench.report.figures import short
from iddmbench.report.widths import width_of
from iddmbench.results import selection
from iddmbench.results.run_folder import EXTRAS, REFERENCES, WORST_CASE, RunFolder
from iddmbench.results.summary import Condition, Summary

SUBJECTS = 6
LINES = 16
"""Most conditions, the anchors aside."""
TILE, GAP, SPACE, STRIP, LINE, NARROWEST = 96, 4, 22, 6, 20, 400
"""Pixels: side of a tile, between tiles, between groups, height of the mark below a tile and of a line of the legend, and least
width of the legend."""
NO_BREAK = "\u00a0"
INK, GRAY, LINKED, EMPTY = "#222222", "#767676", "#D55E00", "#f0f0f0"


@dataclass(frozen=True)
class Tile:
    """An image (None: missing) and its mark: "linked", "no face" or ""."""

    image: np.ndarray | None
    mark: str = ""


@dataclass(frozen=True)
class Strip:
    """Neighbouring columns under one caption: tiles by subject, at most `width` each."""

    caption: str
    width: int
    tiles: dict[str, list[Tile]]


def contact_sheet(run: RunFolder, width: str = "screen") -> Image.Image:
    """The sheet as an RGB image.

    Rows are subjects (six at most), column groups the references, what a defense made of them, undefended outputs, each
    defense and strength, and the generic model. Every group shows the same prompts and noise. A bar below an image says
    that the strongest attacker of its condition links it at rank 1, a dotted one that no attacker finds a face.
    Of many conditions a part is shown, without what the defenses made of the references. `width`: a name of `WIDTHS`, which
    says how many tiles stand in a row; groups that don't fit stand below the first ones.
    """
    summary, columns = Summary(run), width_of(width).tiles
    subjects = [str(s) for s in dict.fromkeys(run.cells["subject"])][:SUBJECTS]
    conditions, left_out = selection.conditions(summary, lines=LINES)
    each = int(np.clip((columns - 2) // max(1, len(conditions)), 2, 4))
    groups = [Strip("references", 2, {s: _tiles(run.pictures(REFERENCES, s), 2) for s in subjects})]
    groups += _extras(run, conditions, subjects, 2) if not left_out else []
    groups += [Strip(c.title, each, {s: _outputs(summary, c, s, each) for s in subjects}) for c in conditions]
    note = _footnote(run, len(dict.fromkeys(run.cells["subject"])), len(subjects), left_out)
    return _draw(_bands(groups, columns), subjects, note)


def _bands(groups: Sequence[Strip], columns: int) -> list[list[Strip]]:
    """Groups in rows of at most `columns` tiles, about equally wide."""
    tiles = sum(g.width for g in groups)
    most = max(-(-tiles // -(-tiles // columns)), *(g.width for g in groups))
    bands: list[list[Strip]] = [[]]
    for group in groups:
        if bands[-1] and sum(g.width for g in bands[-1]) + group.width > min(most + 1, columns):
            bands.append([])
        bands[-1].append(group)
    return bands


def _tiles(images: Sequence[np.ndarray], count: int) -> list[Tile]:
    return [Tile(image) for image in images[:count]]


def _extras(run: RunFolder, conditions: Sequence[Condition], subjects: Sequence[str], width: int) -> list[Strip]:
    """What each defense shows of its work (IDDM: its decoupled references), at its highest strength."""
    strongest = {c.defense: c for c in conditions if c.strength is not None}
    groups = []
    for condition in strongest.values():
        folders = [f for f in run.subfolders(EXTRAS) if f == condition.label or f.startswith(f"{condition.label}-seed")]
        titles = dict.fromkeys(t for f in folders[:1] for s in subjects for t in run.subfolders(EXTRAS, f, s))
        for title in titles:
            tiles = {s: _tiles(run.pictures(EXTRAS, folders[0], s, title), width) for s in subjects}
            groups.append(Strip(f"{title}, {condition.title.replace(' ', NO_BREAK)}", width, tiles))
    return groups


def _outputs(summary: Summary, condition: Condition, subject: str, count: int) -> list[Tile]:
    run, attacker = summary.run, summary.strongest(condition, WORST_CASE)
    rows = condition.rows(run.images)
    rows = rows[rows["subject"] == subject]
    rows = rows[rows["seed"] == rows["seed"].min()] if len(rows) else rows
    # Evenly over the rows, so that different prompts are seen.
    rows = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))] if len(rows) else rows
    probes = run.probes[run.probes["subject"] == subject]
    return [
        Tile(run.picture(path), _mark(probes[probes["image"] == path], attacker)) for path in rows["image"].astype(str)
    ]


def _mark(probes: pd.DataFrame, attacker: str) -> str:
    if (probes.loc[probes["attacker"] == attacker, "rank"] == 1).any():
        return "linked"
    return "" if probes.empty or probes["acquired"].any() else "no face"


def _footnote(run: RunFolder, subjects: int, rows: int, left_out: str) -> str:
    parts = [f"{run.config.get('dataset', '')} on {run.config.get('base', '')}"]
    if subjects > rows:
        parts.append(f"{rows} of {subjects} subjects")
    return short(", ".join([*parts, left_out] if left_out else parts), 400)


def _draw(bands: Sequence[Sequence[Strip]], subjects: Sequence[str], footnote: str) -> Image.Image:
    caption_font, font, bold = _font(14), _font(13), _font(14, bold=True)
    names = [short(s, 24) for s in subjects]
    left = 16 + max([round(bold.getlength(n)) for n in names] or [0]) + 16
    row = TILE + STRIP + 10
    captions = [[_wrap(short(g.caption, 60), caption_font, _wide(g)) for g in band] for band in bands]
    tops = [16 + 18 * max(map(len, lines)) + 8 for lines in captions]
    most = max(sum(map(_wide, band)) + SPACE * (len(band) - 1) for band in bands)
    across = max(left + most + 16, 16 + NARROWEST + 16)
    legend = _legend(left if across - left > NARROWEST else 16, across - 16, footnote, font)
    high = sum(tops) + len(bands) * row * len(subjects) + LINE * (1 + legend[-1][1]) + 16
    sheet = Image.new("RGB", (across, high), "white")
    draw = ImageDraw.Draw(sheet)
    y = 0
    for band, texts, top in zip(bands, captions, tops, strict=True):
        x, y = left, y + top
        for group, lines in zip(band, texts, strict=True):
            for i, line in enumerate(lines):
                place = x + _wide(group) / 2, y - 8 - 18 * (len(lines) - i)
                draw.text(place, line, font=caption_font, fill=INK, anchor="ma")
            for r, subject in enumerate(subjects):
                tiles = group.tiles[subject]
                for i in range(group.width):
                    at = (x + i * (TILE + GAP), y + r * row)
                    _tile(sheet, draw, at, tiles[i] if i < len(tiles) else Tile(None), font)
            x += _wide(group) + SPACE
        for r, name in enumerate(names):
            draw.text((16, y + r * row + TILE / 2), name, font=bold, fill=INK, anchor="lm")
        y += row * len(subjects)
    for start, number, mark, text, tint in legend:
        level = y + 8 + LINE * number
        _bar(draw, start, level + 6, 28, mark)
        draw.text((start + (34 if mark else 0), level), text, font=font, fill=tint)
    return sheet


def _wide(group: Strip) -> int:
    return group.width * TILE + (group.width - 1) * GAP


def _tile(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, place: tuple[int, int], tile: Tile, font: ImageFont.FreeTypeFont
) -> None:
    x, y = place
    if tile.image is None:
        draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), fill=EMPTY)
        draw.text((x + TILE / 2, y + TILE / 2), "missing", font=font, fill=GRAY, anchor="mm")
        return
    image = Image.fromarray(tile.image)
    scale = TILE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    sheet.paste(image.resize(size, Image.Resampling.LANCZOS), (x + (TILE - size[0]) // 2, y + (TILE - size[1]) // 2))
    _bar(draw, x, y + TILE + 2, TILE, tile.mark)


def _bar(draw: ImageDraw.ImageDraw, x: float, y: float, width: int, mark: str) -> None:
    if mark == "linked":
        draw.rectangle((x, y, x + width - 1, y + STRIP - 3), fill=LINKED)
    if mark == "no face":
        for i in range(0, width - 3, 8):
            draw.rectangle((x + i, y, x + i + 3, y + STRIP - 3), fill=GRAY)


def _legend(left: int, right: int, footnote: str, font: ImageFont.FreeTypeFont) -> list[tuple[int, int, str, str, str]]:
    """(x, line, mark, text, colour) of the legend and the footnote, in the lines that they need between `left` and `right`."""
    found, x, line = [], left, 0
    marks = ("linked", "linked at rank 1 by the strongest plain attacker"), ("no face", "no face found")
    for mark, text in marks:
        width = 34 + round(font.getlength(text))
        if x > left and x + width > right:
            x, line = left, line + 1
        found.append((x, line, mark, text, INK))
        x += width + 24
    if x + font.getlength(footnote) > right:
        x, line = left, line + 1
    for i, text in enumerate(_wrap(footnote, font, right - x)):
        found.append((x, line + i, "", text, GRAY))
    return found


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines no wider than `width` pixels; a word that is wider is broken, after a hyphen if it has one there."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        lines += [word] if lines[-1] else []
        lines[-1] = lines[-1] or word
        while font.getlength(lines[-1]) > width and len(lines[-1]) > 1:
            fits = next(n for n in range(len(lines[-1]) - 1, 0, -1) if n == 1 or font.getlength(lines[-1][:n]) <= width)
            cut = lines[-1].rfind("-", 0, fits) + 1 or fits
            lines[-1:] = [lines[-1][:cut], lines[-1][cut:]]
    return lines


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which ships with matplotlib: the same picture on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)
