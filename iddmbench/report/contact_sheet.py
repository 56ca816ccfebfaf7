"""One picture of a run: what each defense's outputs look like, beside the photos that went in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from iddmbench.report.figures import short
from iddmbench.results import selection
from iddmbench.results.run_folder import EXTRAS, REFERENCES, WORST_CASE, RunFolder
from iddmbench.results.summary import Condition, Summary

SUBJECTS = 6
COLUMNS = 20
"""Most tiles in a row; the images per group follow from it."""
TILE, GAP, SPACE, STRIP = 96, 4, 22, 6
"""Pixels: side of a tile, between tiles, between groups, height of the mark below a tile."""
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


def contact_sheet(run: RunFolder) -> Image.Image:
    """The sheet as an RGB image.

    Rows are subjects (six at most), column groups the references, what a defense made of them, undefended outputs, each
    defense and strength, and the generic model. Every group shows the same prompts and noise. A bar below an image says
    that the strongest attacker of its condition links it at rank 1, a dotted one that no attacker finds a face.
    Of many conditions a part is shown, without what the defenses made of the references.
    """
    summary = Summary(run)
    subjects = [str(s) for s in dict.fromkeys(run.cells["subject"])][:SUBJECTS]
    conditions, left_out = selection.conditions(summary, lines=COLUMNS - 4)
    width = int(np.clip((COLUMNS - 2) // max(1, len(conditions)), 1, 4))
    groups = [Strip("references", 2, {s: _tiles(run.pictures(REFERENCES, s), 2) for s in subjects})]
    groups += _extras(run, conditions, subjects, 2) if not left_out else []
    groups += [Strip(c.title, width, {s: _outputs(summary, c, s, width) for s in subjects}) for c in conditions]
    return _draw(groups, subjects, _footnote(run, len(dict.fromkeys(run.cells["subject"])), len(subjects), left_out))


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
    return short(", ".join([*parts, left_out] if left_out else parts), 160)


def _draw(groups: Sequence[Strip], subjects: Sequence[str], footnote: str) -> Image.Image:
    caption_font, font, bold = _font(14), _font(13), _font(14, bold=True)
    names = [short(s, 14) for s in subjects]
    left = 16 + max([round(bold.getlength(n)) for n in names] or [0]) + 16
    widths = [g.width * TILE + (g.width - 1) * GAP for g in groups]
    captions = [_wrap(short(g.caption, 60), caption_font, width) for g, width in zip(groups, widths, strict=True)]
    top = 16 + 18 * max(len(lines) for lines in captions) + 8
    row = TILE + STRIP + 10
    size = left + sum(widths) + SPACE * (len(groups) - 1) + 16, top + row * len(subjects) + 40
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    x = left
    for group, width, lines in zip(groups, widths, captions, strict=True):
        for i, line in enumerate(lines):
            y = top - 8 - 18 * (len(lines) - i)
            draw.text((x + width / 2, y), line, font=caption_font, fill=INK, anchor="ma")
        for r, subject in enumerate(subjects):
            tiles = group.tiles[subject]
            for i in range(group.width):
                place = (x + i * (TILE + GAP), top + r * row)
                _tile(sheet, draw, place, tiles[i] if i < len(tiles) else Tile(None), font)
        x += width + SPACE
    for r, name in enumerate(names):
        draw.text((16, top + r * row + TILE / 2), name, font=bold, fill=INK, anchor="lm")
    _legend(draw, (left, size[1] - 24), footnote, font)
    return sheet


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


def _legend(draw: ImageDraw.ImageDraw, place: tuple[int, int], footnote: str, font: ImageFont.FreeTypeFont) -> None:
    x, y = place
    for mark, text in (
        ("linked", "linked at rank 1 by the strongest plain attacker"),
        ("no face", "no face found"),
    ):
        _bar(draw, x, y + 6, 28, mark)
        draw.text((x + 34, y), text, font=font, fill=INK)
        x += 34 + round(font.getlength(text)) + 24
    draw.text((x, y), footnote, font=font, fill=GRAY)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines no wider than `width` pixels where words allow it."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = joined
    return lines


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which ships with matplotlib: the same picture on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)
