"""Bundles for tests: a small valid one, made in a moment, and forgeries of any bundle."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 64
SUBJECTS = ("s29", "s30", "s31")
PROMPTS = ("a photo of sks person",)
Members = dict[str, bytes]


def picture(seed: int = 0, side: int = SIDE) -> np.ndarray:
    """uint8 [side, side, 3]: smooth random shapes."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 6), dtype=np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    return np.repeat(np.asarray(small)[..., None], 3, axis=2)


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


def content(**changes: Any) -> dict[str, Any]:
    """A valid submission.json of "iddm" at two strengths on three subjects, one image a cell, without `files`."""
    cells = [
        {"defense": d, "strength": x, "subject": s, "seed": 0, "status": "ok"}
        for d, x in (("none", None), ("generic", None), ("iddm", 0.5), ("iddm", 1.0))
        for s in SUBJECTS
    ]
    run = {
        **{"iddmbench": "0.1.0", "dataset": "orl", "base": "micro", "personalizer": "lora", "subjects": list(SUBJECTS)},
        **{"seeds": [0], "prompts": list(PROMPTS), "images_per_prompt": 1, "strengths": [0.5, 1.0]},
        **{"defense_options": {"rounds": "6"}, "resolved_options": {"rounds": 6}, "lora": {}, "sampling": {}},
        **{"lora_settings": {"rank": 16}, "sampling_settings": {"steps": 12}},
        **{"data_fingerprint": "a" * 64, "base_fingerprint": "b" * 64},
    }
    claim = {
        "defense": "iddm",
        "strength": 1.0,
        "attacker": "dlib",
        "metric": "r1u",
        "policy": "headline",
        "value": 0.9,
    }
    return {
        **{"schema": 1, "name": "A method", "defense": "iddm", "title": "how it works", "authors": ["A. Author"]},
        **{"paper": "https://arxiv.org/abs/2604.00903", "code": None, "description": "", "white_box": ["sface"]},
        **{"protocol": {"version": "1", "hash": "c" * 64}, "run": run, "machine": {"python": "3.11.7", "cpu_count": 2}},
        **{"attackers": {"dlib": "d" * 64}, "cells": cells, "claims": [claim], "adapters": False},
        **changes,
    }


def members_of(meta: dict[str, Any], image: Callable[[dict[str, Any]], bytes]) -> Members:
    names = {c["subject"] + str(c["defense"]) + str(c["strength"]): c for c in meta["cells"]}
    found = {}
    for cell in names.values():
        condition = cell["defense"] if cell["strength"] is None else f"{cell['defense']}-{cell['strength']:.2f}"
        found[f"images/{condition}-seed{cell['seed']}/{cell['subject']}/0000.png"] = image(cell)
    return found


def write(path: Path, meta: dict[str, Any], members: Members, rehash: bool = True, raw: bytes | None = None) -> Path:
    """Write a bundle; `files` is filled in from `members`. `raw`: bytes of submission.json instead."""
    if rehash:
        meta = meta | {"files": facts(members)}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("submission.json", raw if raw is not None else json.dumps(meta))
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def facts(members: Members) -> dict[str, Any]:
    return {k: {"size": len(v), "sha256": hashlib.sha256(v).hexdigest()} for k, v in members.items()}


def valid(path: Path, **changes: Any) -> Path:
    meta = content(**changes)
    return write(path, meta, members_of(meta, lambda cell: png(picture(zlib.crc32(str(cell).encode())))))


def unpack(path: Path) -> tuple[dict[str, Any], Members]:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(members.pop("submission.json")), members


def forge(source: Path, target: Path, change: Callable[[dict[str, Any], Members], None]) -> Path:
    """The bundle with its metadata and members changed, and hashes that fit again: a forger is not that careless."""
    meta, members = unpack(source)
    change(meta, members)
    return write(target, meta, members)
