"""From a run folder to a bundle: one zip file with images, settings, hashes and claims, and no photo of the dataset."""

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.torch import save

from iddmbench.defense import DEFENSES, configure
from iddmbench.errors import UserError
from iddmbench.models.base import ALIASES, EMBEDDED
from iddmbench.results.run_folder import WORST_CASE_TRANSFER, RunFolder
from iddmbench.store.files import replacing
from iddmbench.submission.images import png
from iddmbench.submission.names import public_name, public_options
from iddmbench.submission.schema import ANCHORS, MEMBER, SUBMISSION_SCHEMA, CellFacts, Submission, parse_submission

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every member: equal runs give equal bundles."""
PRIVATE = ("folder",)
"""Datasets whose photos only their owner has: nobody could verify a submission on them."""


@dataclass(frozen=True)
class About:
    """What only the submitter knows. Lengths and characters are checked by `schema.Submission`."""

    name: str
    authors: tuple[str, ...] = ()
    paper: str | None = None
    code: str | None = None
    description: str = ""
    white_box: tuple[str, ...] = field(default=())


def write_bundle(
    run: RunFolder, defense: str | None, about: About, out: Path, adapters: Path | None = None
) -> Submission:
    """Write the bundle of one defense of a finished run to `out`, with the run's anchors when it has them.

    Args:
        defense: which defense; None when the run has one only. "none" makes a bundle of the anchors alone.
        adapters: the cache that holds the adapters, to put them in as well.

    Raises UserError when the run is of a private dataset, lacks an image, or has several defenses and none is named.
    """
    run.check_made()
    config = run.config
    if config.get("dataset") in PRIVATE:
        raise UserError(f"runs on the dataset '{config['dataset']}' can't be submitted: nobody else has the photos")
    if name := config["protocol"].get("name"):
        raise UserError(
            f"runs under the published protocol '{name}' can't be submitted: only those under this benchmark's own are ranked"
        )
    name = _choose(run, defense)
    keep = [name, *ANCHORS]
    cells = [row for row in run.cells.to_dict("records") if row["defense"] in keep]
    facts = [_cell(row) for row in cells]
    members: dict[str, bytes] = {}
    for row, cell in zip(cells, facts, strict=True):
        if cell["status"] == "ok":
            members |= _images(run, row, CellFacts.model_validate(cell))
    if adapters is not None:
        members |= _adapters(run, name, facts, adapters)
    fingerprints = dict(zip(run.calibration["attacker"], run.calibration["fingerprint"], strict=True))
    white_box = about.white_box or _surrogates(run, name)
    claimed = run.summary[run.summary["defense"].isin(keep)]
    if set(white_box) != set(
        _surrogates(run, name)
    ):  # the run took other attackers for unknown ones than the bundle says
        claimed = claimed[claimed["attacker"] != WORST_CASE_TRANSFER]
    content = {
        "schema": SUBMISSION_SCHEMA,
        "name": about.name,
        "defense": name,
        "title": DEFENSES.get(name).title if name in DEFENSES.names() else name,
        "authors": about.authors,
        "paper": about.paper,
        "code": about.code,
        "description": about.description,
        "white_box": [public_name(n, fingerprints) for n in white_box],
        "protocol": config["protocol"],
        "run": _public(_run_facts(run, name), fingerprints),
        "machine": _machine(run.environment),
        "attackers": {public_name(n, fingerprints): digits for n, digits in fingerprints.items()},
        "cells": facts,
        "claims": _claims(claimed, fingerprints),
        "files": {k: {"size": len(v), "sha256": hashlib.sha256(v).hexdigest()} for k, v in sorted(members.items())},
        "adapters": adapters is not None,
    }
    text = json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False, default=list)
    meta = parse_submission(json.loads(text))
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as part, zipfile.ZipFile(part, "w") as archive:
        _add(archive, MEMBER, text.encode(), zipfile.ZIP_DEFLATED)
        for member, data in sorted(members.items()):
            _add(archive, member, data, zipfile.ZIP_STORED)
    return meta


def _choose(run: RunFolder, defense: str | None) -> str:
    found = sorted({str(d) for d in run.cells["defense"]} - set(ANCHORS))
    if defense is None and len(found) == 1:
        return found[0]
    if defense is None:
        raise UserError(f"run {run.name} has {', '.join(found) or 'anchors only'}: choose one with --defense")
    if defense not in {str(d) for d in run.cells["defense"]}:
        raise UserError(f"run {run.name} has no defense '{defense}', but {', '.join(found) or 'anchors only'}")
    return defense


def _cell(row: Mapping[Any, Any]) -> dict[str, Any]:
    strength = float(row["strength"])
    status = "ok" if row["status"] == "ok" else "failed"
    return {
        "defense": str(row["defense"]),
        "strength": None if math.isnan(strength) else strength,
        "subject": str(row["subject"]),
        "seed": int(row["seed"]),
        "status": status,
    }


def _images(run: RunFolder, row: Mapping[Any, Any], cell: CellFacts) -> dict[str, bytes]:
    order = {prompt: i for i, prompt in enumerate(run.config["prompts"])}
    rows = run.images[run.images["cell"] == row["cell"]]
    rows = rows.assign(order=rows["prompt"].map(order)).sort_values(["order", "index"])
    found = {}
    for i, path in enumerate(rows["image"].astype(str)):
        picture = run.picture(path)
        if picture is None:
            raise UserError(f"run {run.name} lacks the image {path}: rerun the command")
        found[f"{cell.folder}/{i:04d}.png"] = png(picture)
    return found


def _run_facts(run: RunFolder, name: str) -> dict[str, Any]:
    config = run.config
    same = ["iddmbench", "dataset", "personalizer", "subjects", "seeds", "prompts", "images_per_prompt", "strengths"]
    same += ["defense_options", "lora", "sampling", "lora_settings", "sampling_settings"]
    facts = {key: config[key] for key in (*same, "data_fingerprint", "base_fingerprint")}
    facts |= {
        key: config[key] for key in ("preset", "threat", "purify", "precision", "personalizer_options") if key in config
    }
    # A folder's path (of protected photos) says nothing to others, and may say too much.
    facts["defense_options"] = {k: v for k, v in config["defense_options"].items() if k != "folder"}
    own = [entry for entry in config["plan"] if entry["name"] == name]
    facts["resolved_options"] = {k: v for k, v in own[-1].items() if k not in ("name", "strength")} if own else {}
    return facts | {"base": config["base"] if config["base"] in (*EMBEDDED, *ALIASES) else "custom"}


def _public(facts: dict[str, Any], fingerprints: Mapping[str, str]) -> dict[str, Any]:
    return facts | {key: public_options(facts[key], fingerprints) for key in ("defense_options", "resolved_options")}


def _machine(environment: dict[str, Any]) -> dict[str, Any]:
    known = ("python", "platform", "processor", "cpu_count", "torch_threads", "gpu", "packages", "git")
    return {key: environment[key] for key in known if key in environment}


def _surrogates(run: RunFolder, name: str) -> tuple[str, ...]:
    """White-box attackers: by the defense itself where it is installed, else as the run's table has it."""
    if name in DEFENSES.names() and name not in ANCHORS:
        options = _run_facts(run, name)["resolved_options"]
        return configure(DEFENSES.get(name), options).surrogates()
    rows = run.summary[(run.summary["defense"] == name) & (run.summary["threat"] == "white-box")]
    return tuple(sorted({str(a) for a in rows["attacker"]}))


def _claims(summary: pd.DataFrame, fingerprints: Mapping[str, str]) -> list[dict[str, Any]]:
    rows = summary[np.isfinite(summary["value"].astype(float))]
    names = {str(name): public_name(str(name), fingerprints) for name in rows["attacker"].unique()}
    return [
        {
            "defense": str(row["defense"]),
            "strength": None if math.isnan(row["strength"]) else float(row["strength"]),
            "attacker": names[str(row["attacker"])],
            "metric": str(row["metric"]),
            "policy": str(row["policy"]),
            "value": float(row["value"]),
        }
        for row in rows.to_dict("records")
    ]


def _adapters(run: RunFolder, name: str, facts: list[dict[str, Any]], cache: Path) -> dict[str, bytes]:
    from iddmbench.run.finished import stages_of_run
    from iddmbench.store.files import read_tensors
    from iddmbench.submission.stages import real_defense

    stages, subjects = stages_of_run(run, cache)
    options = _run_facts(run, name)["resolved_options"]
    found = {}
    for cell in map(CellFacts.model_validate, facts):
        if cell.status != "ok" or cell.defense == "generic":
            continue
        path = stages.adapter(real_defense(cell, subjects, options))
        if not path.is_file():
            raise UserError(f"the adapter of {cell.folder} is not in the cache {cache}: rerun the command")
        found[cell.adapter] = save(read_tensors(path))
    return found


def _add(archive: zipfile.ZipFile, name: str, data: bytes, how: int) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.compress_type, info.external_attr = how, 0o644 << 16
    with archive.open(info, "w") as stream:
        stream.write(io.BytesIO(data).getbuffer())
