"""Hostile bundles: each attack is built, and refused in one line before anything is written or believed."""

import io
import json
import stat
import struct
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import pytest
from bundles import content, members_of, picture, png, valid, write
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from iddmbench.errors import UserError
from iddmbench.submission import read
from iddmbench.submission.images import decode
from iddmbench.submission.read import open_bundle, strict_json
from iddmbench.submission.schema import Options, json_schema, parse_submission
from iddmbench.submission.text import csv_cell, markdown

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "images/none-seed0/s29/0000.png"


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_bundle(path)
    text = str(caught.value)
    assert "\n" not in text and text.isprintable() and len(text) < 600
    return text


def with_member(tmp_path: Path, name: str, data: bytes = b"x", **attributes: Any) -> Path:
    """A valid bundle and one member more, of any name."""
    path = valid(tmp_path / "bundle.zip")
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("placeholder")
        info.filename = info.orig_filename = name
        for key, value in attributes.items():
            setattr(info, key, value)
        archive.writestr(info, data)
    return path


def test_a_valid_bundle_is_read(tmp_path: Path) -> None:
    bundle = open_bundle(valid(tmp_path / "bundle.zip"))
    assert bundle.meta.name == "A method" and len(bundle.meta.files) == 12
    images = bundle.images(bundle.meta.cells[0], bundles.SIDE)
    assert images.shape == (1, 64, 64, 3) and images.dtype == np.uint8


@pytest.mark.parametrize(
    "name",
    [
        "../../../tmp/evil.png",
        "/etc/passwd",
        "images/../../evil.png",
        "images\\..\\evil.png",
        "C:/evil.png",
        "images/none-seed0/s29/0000.png\x00.exe",
        "images/none-seed0/s29/\u202egnp.exe",
        "images/none-seed0/./s29/0000.png",
        "images/none-seed0/s29/0000.PNG",
        "images/none-seed0/.hidden/0000.png",
        "images/none-seed0/s29/0000.png/",
        "images/con\n/s29/0000.png",
        "IMAGES/none-seed0/s29/0000.png",
        "adapters/x/y.pkl",
        "x" * 60_000,
    ],
)
def test_odd_names_are_refused(tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    refusal(with_member(tmp_path, name))
    assert sorted(tmp_path.rglob("*")) == [*before, tmp_path / "bundle.zip"], "something was unpacked"


def test_a_member_nobody_asked_for(tmp_path: Path) -> None:
    assert "not in the list" in refusal(with_member(tmp_path, "images/none-seed0/s29/0001.png"))


def test_symlinks_and_special_files(tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK):
        path = with_member(
            tmp_path, "images/none-seed0/s99/0000.png", b"/etc/passwd", external_attr=(kind | 0o777) << 16
        )
        assert "link" in refusal(path)


def test_a_member_that_stands_twice(tmp_path: Path) -> None:
    path = valid(tmp_path / "bundle.zip")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(IMAGE, b"other content")
    assert "appears twice" in refusal(path)


def test_zip_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is honest about its size, one that lies, and one of very many members."""
    monkeypatch.setattr(read, "MOST_IMAGE", 1 << 20)
    meta = content()
    members = members_of(meta, lambda cell: png(picture()))
    bomb = members | {IMAGE: bytes(20 << 20)}
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("submission.json", json.dumps(meta | {"files": bundles.facts(bomb)}))
        for name, data in bomb.items():
            archive.writestr(name, data)
    assert path.stat().st_size < 200_000
    assert "larger than 1 MiB" in refusal(path)

    lying = path.read_bytes().replace(struct.pack("<I", 20 << 20), struct.pack("<I", 100))
    (tmp_path / "lying.zip").write_bytes(lying)
    refusal(tmp_path / "lying.zip")

    monkeypatch.setattr(read, "MOST_BYTES", 10_000)
    assert "unpacks to more" in refusal(valid(tmp_path / "large.zip"))
    monkeypatch.undo()
    monkeypatch.setattr(read, "MOST_MEMBERS", 5)
    assert "at most 5" in refusal(valid(tmp_path / "many.zip"))


def test_something_in_front_of_or_behind_the_archive(tmp_path: Path) -> None:
    """Two files in one: another program would see the script."""
    whole = valid(tmp_path / "whole.zip").read_bytes()
    (tmp_path / "script.zip").write_bytes(b"#!/bin/sh\nexit 1\n" + whole)
    assert "before the archive" in refusal(tmp_path / "script.zip")
    with zipfile.ZipFile(tmp_path / "whole.zip", "a") as archive:
        archive.comment = b"<script>"
    assert "after the archive" in refusal(tmp_path / "whole.zip")


@pytest.mark.parametrize(
    ("field", "item", "count", "hint"),
    [
        ("cells", "{}", 10_900_000, "more than 600000 values"),
        ("claims", "0", 16_000_000, "more than 600000 values"),
        ("cells", "{}", 250_000, "at most 20000"),
        ("claims", "[]", 250_000, "at most 40000"),
        ("white_box", '""', 250_000, "at most 2000"),
        ("cells", "{}", 20_000, "cells.0.defense"),
        ("claims", "0", 40_000, "claims.0"),
    ],
)
def test_lists_of_very_many(tmp_path: Path, field: str, item: str, count: int, hint: str) -> None:
    """Half a megabyte of zip, which took 14 GB while an error was collected for each element."""
    meta = content()
    meta["files"] = bundles.facts(members_of(meta, lambda cell: b""))
    text = json.dumps(meta | {field: ["@"]}).replace('["@"]', "[" + ",".join([item] * count) + "]")
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("submission.json", text)
    size = len(text)
    del text
    start = time.process_time()
    tracemalloc.start()
    try:
        assert hint in refusal(path)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 3 * size + (120 << 20), f"{most >> 20} MiB for {size >> 20} MiB of JSON"
    assert time.process_time() - start < 20, "tracing slows it; without an early end it would be minutes"


def test_json_that_is_deep_or_whose_files_are_none() -> None:
    deep: Any = 1
    for _ in range(30):
        deep = [deep]
    with pytest.raises(UserError, match="deep"):
        parsed(machine={"packages": deep})
    meta = content()
    for wrong in (0, {}, {"size": 1}, {"size": 1, "sha256": "a" * 64, "more": 1}):
        with pytest.raises(UserError, match="files"):
            parse_submission(meta | {"files": {IMAGE: wrong}})


def test_no_zip_damaged_encrypted_or_oddly_packed(tmp_path: Path) -> None:
    assert "no such bundle" in refusal(tmp_path / "absent.zip")
    (tmp_path / "text.zip").write_text("hello")
    refusal(tmp_path / "text.zip")
    whole = valid(tmp_path / "whole.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    refusal(tmp_path / "cut.zip")
    broken = bytearray(whole)
    start = whole.index(b"\x89PNG")
    broken[start + 30] ^= 0xFF
    (tmp_path / "flipped.zip").write_bytes(bytes(broken))
    assert "damaged" in refusal(tmp_path / "flipped.zip")
    with zipfile.ZipFile(tmp_path / "lzma.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("submission.json", "{}")
    assert "compression" in refusal(tmp_path / "lzma.zip")
    with zipfile.ZipFile(tmp_path / "locked.zip", "w") as archive:
        archive.writestr("submission.json", "{}")
    locked = bytearray((tmp_path / "locked.zip").read_bytes())
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(bytes(locked))
    assert "encrypted" in refusal(tmp_path / "locked.zip")


def test_files_must_be_those_that_are_stated(tmp_path: Path) -> None:
    meta = content()
    members = members_of(meta, lambda cell: png(picture()))
    meta["files"] = bundles.facts(members)
    other = members | {IMAGE: png(picture(7))}
    assert "hash" in refusal(write(tmp_path / "other.zip", meta, other, rehash=False))
    less = {k: v for k, v in members.items() if k != IMAGE}
    assert "missing" in refusal(write(tmp_path / "less.zip", meta, less, rehash=False))
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr(IMAGE, members[IMAGE])
    assert "iddmbench submit" in refusal(tmp_path / "none.zip")


# ---- JSON -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "Infinity"),
        ('{"a": 1e999}', "not finite"),
        ('{"a": 1, "a": 2}', "appears twice"),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "appears twice"),
        ('{"a": ' + "9" * 50_000 + "}", "too long"),
        ("[" * 100_000 + "]" * 100_000, "not valid JSON"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "not valid JSON"),
        ('{"a": "' + '\\"' * 100_000, "not valid JSON"),
        ("[1, 2]", "not a JSON object"),
        ("", "not valid JSON"),
        ('{"a": 1} trailing', "not valid JSON"),
        ("{'a': 1}", "not valid JSON"),
    ],
)
def test_json_is_strict(text: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=hint) as caught:
        strict_json(text.encode(), "x.json")
    assert len(str(caught.value)) < 300
    assert hint in refusal(write(tmp_path / "bundle.zip", {}, {}, rehash=False, raw=text.encode()))


def test_json_that_is_no_utf8_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal(write(tmp_path / "latin.zip", {}, {}, rehash=False, raw='{"a": "é"}'.encode("latin-1")))
    monkeypatch.setattr(read, "MOST_JSON", 1 << 20)
    huge = b'{"a": "' + b"x" * (2 << 20) + b'"}'
    with zipfile.ZipFile(tmp_path / "huge.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("submission.json", huge)
    assert "larger than 1 MiB" in refusal(tmp_path / "huge.zip")


# ---- metadata -------------------------------------------------------------------------------------------------------


def parsed(**changes: Any) -> None:
    meta = content(**changes)
    parse_submission(meta | {"files": bundles.facts(members_of(meta, lambda cell: b""))})


@pytest.mark.parametrize(
    "text",
    [
        "two\nlines",
        "bell\x07",
        "escape \x1b[31m",
        "right\u202eto left",
        "isolate \u2066x\u2069",
        "zero\u200bwidth",
        "\ufeffbom",
        "a" + "\u0300" * 20,
        "private \ue000",
        "\u3164",
        "\u2800\u2800",
        "a\u115fb",
        "two\u00a0words",
        "\u0301",
        " leading",
        "trailing ",
        "",
        "x" * 81,
    ],
)
def test_text_that_is_not_plain(text: str) -> None:
    for field in ("name", "title") if len(text) != 81 else ("name",):
        with pytest.raises(UserError, match=field) as caught:
            parsed(**{field: text})
        assert str(caught.value).isprintable()
    with pytest.raises(UserError, match="authors"):
        parsed(authors=[text])


def test_foreign_letters_are_plain() -> None:
    parsed(name="Ångström 名前 مرحبا हिन्दी", authors=["Łukasz Ørsted", "王小明"])


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        'https://example.org/"><script>alert(1)</script>',
        "https://example.org/a) [x](javascript:alert(1)",
        "https://user:password@example.org/",
        "https://example.org/a b",
        "ftp://example.org/",
        "//example.org",
        "https://example.org/\nx",
        "https://example.org/" + "a" * 400,
    ],
)
def test_urls_that_are_none(url: str) -> None:
    for field in ("paper", "code"):
        with pytest.raises(UserError, match=field):
            parsed(**{field: url})


def test_names_that_would_be_paths() -> None:
    for name in ("../x", "a/b", ".", "..", "-rf", "", "a\x00", "con ", "é"):
        with pytest.raises(UserError):
            parsed(defense=name)
        with pytest.raises(UserError):
            parsed(run=content()["run"] | {"base": name})


def test_an_attacker_is_a_name_and_never_a_path() -> None:
    (claim,) = content()["claims"]
    for name in ("onnx:/home/me/a.onnx", "onnx:..\\a", "finetune:onnx:~/a", "<b>", "x" * 161, ":a", "a b"):
        for change in (
            {"attackers": {name: "d" * 64}},
            {"white_box": [name]},
            {"claims": [claim | {"attacker": name}]},
        ):
            with pytest.raises(UserError):
                parsed(**change)
    for name in ("onnx:a-0123abcd", "fuse:dlib+onnx:a-0123abcd:mtcnn"):
        parsed(attackers={name: "d" * 64}, claims=[claim | {"attacker": name}])
    parsed(white_box=["onnx:a-0123abcd:mtcnn"])


@pytest.mark.parametrize("name", ["finetune:", "onnx:", "sface::mtcnn", "finetune:sface", "fuse:dlib+sface", ":"])
def test_a_surrogate_is_a_system(name: str) -> None:
    """An empty name, or an adaptive attacker, would leave no attacker that may judge."""
    with pytest.raises(UserError, match="white_box"):
        parsed(white_box=[name])


def test_a_base_is_a_name_and_never_a_path() -> None:
    """What to load is for the verifier to say."""
    with pytest.raises(UserError, match="base"):
        parsed(run=content()["run"] | {"base": "/home/someone/model"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none(value: float) -> None:
    with pytest.raises(UserError, match="claims"):
        parsed(claims=[content()["claims"][0] | {"value": value}])
    with pytest.raises(UserError, match="strength"):
        parsed(run=content()["run"] | {"strengths": [0.5, value]})


def test_inconsistent_metadata() -> None:
    cells = content()["cells"]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"cells": cells[:-1]}, "list failed ones"),
        ({"cells": [*cells, cells[0]]}, "share a folder"),
        ({"cells": [*cells[:-1], cells[-1] | {"subject": "s99"}]}, "does not name"),
        ({"cells": [*cells[:-1], cells[-1] | {"strength": 0.9}]}, "does not name"),
        ({"cells": [*cells[:-1], cells[-1] | {"defense": "other"}]}, "in a submission of"),
        ({"cells": [*cells[:-1], cells[-1] | {"strength": None}]}, "with strength"),
        ({"cells": []}, "cells"),
        ({"schema": 2}, "schema version 2"),
        ({"extra": 1}, "extra"),
    ]
    for changes, hint in cases:
        with pytest.raises(UserError, match=hint):
            parsed(**changes)
    meta = content()
    meta["cells"][-1]["status"] = "failed"
    with pytest.raises(UserError, match="don't match"):
        parse_submission(meta | {"files": bundles.facts(members_of(content(), lambda cell: b""))})


def test_the_published_schema_is_current() -> None:
    """After a change of `schema.py`: python -c "from iddmbench.submission.schema import *; print(json_schema(), end='')"."""
    assert (ROOT / "docs" / "submission.schema.json").read_text(encoding="utf-8") == json_schema()


# ---- images ---------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def deep(image: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, which Pillow opens as if it were of 8."""
    rows = b"".join(b"\x00" + (row.astype(">u2") * 257).tobytes() for row in image)
    header = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_images_that_are_none() -> None:
    face = Image.fromarray(picture())
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    giant = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    good = png(picture())
    text = good[:33] + chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(200 << 20), 9)) + good[33:]
    frames = saved(face, save_all=True, append_images=[Image.fromarray(picture(1))])
    cases = {
        "HTML": b"<!doctype html><script>alert(1)</script>",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        "JPEG": saved(face, "JPEG"),
        "GIF": saved(face, "GIF"),
        "TIFF": saved(face, "TIFF"),
        "pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01x\x94.",
        "empty": b"",
        "signature only": good[:8],
        "cut": good[: len(good) // 2],
        "giant": giant,
        "large": png(picture(side=128)),
        "palette": saved(face.convert("P")),
        "16 bit": saved(Image.fromarray(np.zeros((64, 64), np.uint16))),
        "16 bit RGB": deep(picture()),
        "transparent": saved(face.convert("RGBA")),
        "animated": frames,
        "text bomb": text,
    }
    for name, data in cases.items():
        with pytest.raises(UserError, match=r"a\.png") as caught:
            decode(data, 64, "a.png")
        assert str(caught.value).isprintable(), name


def test_a_good_image_keeps_its_pixels_only() -> None:
    image = picture()
    noisy = png(image)[:33] + chunk(b"tEXt", b"Comment\x00<script>") + png(image)[33:] + b"trailing <html>"
    assert np.array_equal(decode(noisy, 64, "a.png"), image)
    gray = saved(Image.fromarray(image[..., 0]))
    assert np.array_equal(decode(gray, 64, "a.png"), image)


# ---- escapes --------------------------------------------------------------------------------------------------------


def test_spreadsheets_see_no_formula() -> None:
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =HYPERLINK(0)"):
        assert csv_cell(text).startswith("'")
    assert csv_cell("IDDM - at 1") == "IDDM - at 1"


def test_markdown_is_inert() -> None:
    shown = markdown("[x](javascript:alert(1)) <b>|</b> `c` **d** ![i](u) https://e.org a@b.org\nnew")
    for active in ("[x]", "<b>", " | ", "`c`", "**", "![", "https:", "a@b", "\n"):
        assert active not in shown


@pytest.mark.parametrize(("value", "fine"), [("", True), ("a pattern", True), (["sface", ""], True), ("a\nb", False)])
def test_an_option_may_be_empty_text(value: Any, fine: bool) -> None:
    """As `target` of the perturbation defenses is by default; a line break is no option's value."""
    adapter = TypeAdapter(Options)
    if fine:
        assert adapter.validate_python({"target": value}) == {"target": value}
    else:
        with pytest.raises(ValidationError):
            adapter.validate_python({"target": value})
