"""A run folder: what it holds, and read access to it. The writer takes file names and columns from here.

config.json, environment.json      how the run was made
premise.parquet                    one row per doubt about photos and systems (results/findings.py), written first
left-out.txt                       photos and people that were left out, and why; absent when none were
failures.txt                       tracebacks of the cells that failed; absent when none did
cells.parquet                      one row per cell: subject x defense x strength x seed
probes.parquet                     one row per generated image x attacker
images.parquet                     one row per generated image
calibration.parquet                one row per attacker x false accept rate
demographics.parquet               protection by sex, age and skin tone: one row per condition x group x figure
prompts.parquet                    figures by prompt, where the run's protocol gives them so
nearest.parquet                    of an evaluation: the people that each attacker finds most alike each image
published.parquet                  impersonation by published thresholds, where the run's protocol has them
summary.parquet                    every figure with its interval; written last, so its presence means "finished"
images/, references/, enrolment/, extras/    PNG files
figures/, report.html              made from the above
"""

import json
import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from iddmbench.errors import UserError, first_line

SCHEMA = 5
CONFIG, ENVIRONMENT, FAILURES, REPORT = "config.json", "environment.json", "failures.txt", "report.html"
LEFT_OUT = "left-out.txt"
EVALUATION = "evaluate"
"""The `kind` in the config of a folder that `iddmbench evaluate` wrote; a run's has none."""
SWEEP_RUNS = "runs"
"""Folder of a sweep's runs."""
IMAGES, REFERENCES, ENROLMENT, EXTRAS, FIGURES = "images", "references", "enrolment", "extras", "figures"

WHITE_BOX, TRANSFER = "white-box", "transfer"
ADAPTIVE, ADAPTIVE_WHITE_BOX = "adaptive", "adaptive white-box"
"""An attacker that prepared for the defense; resting on a system that the defense optimized against, or not."""
WORST_CASE, WORST_CASE_ADAPTIVE, WORST_CASE_TRANSFER = "worst-case", "worst-case-adaptive", "worst-case-transfer"
"""The `attacker` of summary rows that hold the strongest single attacker, named by `by`: of the plain ones (white-box
included), of these and of all that prepare for the defense, of the plain ones that the defense did not optimize against."""
UNION, UNION_ADAPTIVE = "union", "union-adaptive"
"""Linked by any of the plain attackers; by any of these and of the adaptive ones. Its floor is the un-personalized model's."""
WORST_CASES = (WORST_CASE, WORST_CASE_ADAPTIVE, WORST_CASE_TRANSFER, UNION, UNION_ADAPTIVE)
"""Values of the `attacker` column that are not attackers."""

IMAGE_COLUMNS: dict[str, type] = {
    "cell": str,
    "subject": str,
    "defense": str,
    "strength": float,
    "seed": int,
    "prompt": str,
    "index": int,
    "image": str,
}
TABLES: dict[str, dict[str, type]] = {
    "cells": {
        "cell": str,
        "dataset": str,
        "subject": str,
        "base": str,
        "defense": str,
        "strength": float,
        "seed": int,
        "status": str,
        "error": str,
        "seconds": float,
        "cached": bool,
        "seconds_protect": float,
        "seconds_personalize": float,
        "seconds_generate": float,
        "seconds_release": float,
        "seconds_embed": float,
        "peak_memory_mb": float,
        "peak_device_memory_mb": float,
        "photo_linf": float,
        "photo_psnr": float,
        "photo_ssim": float,
    },
    "probes": IMAGE_COLUMNS
    | {
        "attacker": str,
        "threat": str,
        "acquired": bool,
        "mated": float,
        "nonmated": float,
        "rank": int,
        "match_1e-2": bool,
        "match_1e-3": bool,
    },
    "images": IMAGE_COLUMNS
    | {"detected": bool, "ser_fiq": float, "brisque": float, "closeness": float, "adherence": float}
    | {"usable": float, "realism": float, "kept_look": float, "closeness_erased": float, "denoising_error": float}
    | {"kept_age": float, "kept_sex": float},
    "calibration": {
        "attacker": str,
        "far": float,
        "threshold": float,
        "achieved_far": float,
        "impostor_pairs": int,
        "licence": str,
        "source": str,
        "fingerprint": str,
        "title": str,
        "threshold_low": float,
        "threshold_high": float,
    },
    "premise": {"kind": str, "severity": str, "subject": str, "photo": str, "attacker": str, "text": str},
    "demographics": {
        "defense": str,
        "strength": float,
        "trait": str,
        "group": str,
        "attacker": str,
        "threat": str,
        "metric": str,
        "value": float,
        "low": float,
        "high": float,
        "images": int,
        "subjects": int,
        "by": str,
    },
    "summary": {
        "defense": str,
        "strength": float,
        "attacker": str,
        "threat": str,
        "metric": str,
        "policy": str,
        "value": float,
        "low": float,
        "high": float,
        "images": int,
        "subjects": int,
        "missing": int,
        "by": str,
        "threshold_low": float,
        "threshold_high": float,
    },
}
"""Table -> column -> type, in order. `strength` is NaN for the anchors, which have none. Of a row of `summary`: `by` names the
attacker that attains a worst case; `threshold_low` and `threshold_high` are the figure itself at the ends of the interval of
the calibrated threshold, for rates at a threshold (NaN elsewhere). The interval `low` to `high` is about the subjects; these
two are about the people that the threshold was calibrated on. In `calibration` they are ends of the threshold."""


def table_file(name: str) -> str:
    """File name of a table ("cells" -> "cells.parquet")."""
    return f"{name}.parquet"


def read_rows(folder: Path, name: str) -> pd.DataFrame:
    """One table of a folder that holds it, a run's or a stage's."""
    return pd.read_parquet(folder / table_file(name))


def make_table(name: str, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a frame with exactly the table's columns and types, also when there are no rows.

    A float that a row lacks (the seconds of a failed cell) becomes NaN. Raises ValueError when a row has a key of its
    own or lacks anything else.
    """
    columns, rows = {**TABLES, **EXTRA_TABLES}[name], list(rows)
    optional = {column: math.nan for column, kind in columns.items() if kind is float}
    full = [{**optional, **row} for row in rows]
    for row in full:
        if set(row) != set(columns):
            raise ValueError(
                f"{name}: missing {sorted(set(columns) - set(row))}, extra {sorted(set(row) - set(columns))}"
            )
    return pd.DataFrame({c: pd.Series([row[c] for row in full], dtype=kind) for c, kind in columns.items()})


PUBLISHED, PROMPTS = "published", "prompts"
"""Tables that only runs under some published protocols have."""
NEAREST = "nearest"
"""A table that only evaluations have."""
EXTRA_TABLES: dict[str, dict[str, type]] = {
    PUBLISHED: {
        "defense": str,
        "strength": float,
        "attacker": str,
        "threat": str,
        "target": str,
        "far": float,
        "threshold": float,
        "value": float,
        "low": float,
        "high": float,
        "images": int,
        "subjects": int,
    },
    PROMPTS: {
        "defense": str,
        "strength": float,
        "prompt": str,
        "metric": str,
        "value": float,
        "low": float,
        "high": float,
        "images": int,
        "subjects": int,
    },
    NEAREST: {
        "subject": str,
        "defense": str,
        "strength": float,
        "image": str,
        "attacker": str,
        "place": int,
        "person": str,
        "source": str,
        "score": float,
    },
}
"""Tables that a finished run need not have. `published`: the share of images that an attacker takes for the target person.
`prompts`: each person's mean over the images of one prompt that have a value, then the mean over people; `images`: all.
`nearest`: the first people of the gallery, by `place` from 1, with scores; `source` is their dataset, or "own photos"."""
LATER = ("premise", "demographics")
"""Tables that finished runs of older versions lack."""
LATER_COLUMNS = {"images": ("usable", "realism", "kept_look", "closeness_erased", "denoising_error")}
"""Columns, of numbers, that they lack: unknown there."""


def label(defense: str, strength: float | None, seed: int | None = None) -> str:
    """Folder of a condition's images: "none", "iddm-0.50"; with a seed, when a run has several, "iddm-0.50-seed1"."""
    text = defense if strength is None or math.isnan(strength) else f"{defense}-{strength:.2f}"
    return text if seed is None else f"{text}-seed{seed}"


class RunFolder:
    """Read access to a finished run; tables are loaded on first use. Create one with `RunFolder.open`."""

    def __init__(self, path: Path | str):
        self.path = Path(path)

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """Check that `path` is a finished run that this version reads.

        Raises UserError, in one line, if it is not a folder or not a run folder, has another schema version, is unfinished or
        damaged (unreadable file, missing column).
        """
        run = cls(path)
        if not run.path.is_dir():
            raise UserError(f"no such run folder: {run.path}")
        if not (run.path / CONFIG).is_file():
            raise UserError(f"{run.path} is not a run folder: it has no {CONFIG}")
        run._check_schema()
        files = [ENVIRONMENT, *map(table_file, TABLES)]
        if not (run.path / table_file("summary")).is_file():
            raise UserError(f"run {run.path} is not finished: run the same command again to resume")
        if missing := [file for file in files if not (run.path / file).is_file()]:
            if set(missing) <= {table_file(name) for name in LATER}:
                without = " and ".join(missing)
                raise UserError(
                    f"run {run.path} was written by an older version without {without}: run the same command again"
                )
            raise UserError(f"run {run.path} is damaged: {', '.join(missing)} missing; run the same command again")
        for name, columns in TABLES.items():
            run._check_columns(name, columns)
        return run

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @cached_property
    def config(self) -> dict[str, Any]:
        return self._json(CONFIG)

    @property
    def index_version(self) -> int:
        """Which utility index it holds (`iddmbench.results.metric_info.INDEX_VERSION`)."""
        found = self.config.get("utility_index", 1)
        return found if isinstance(found, int) else 1

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self._json(ENVIRONMENT)

    @cached_property
    def cells(self) -> pd.DataFrame:
        return self._table("cells")

    @cached_property
    def probes(self) -> pd.DataFrame:
        return self._table("probes")

    @cached_property
    def images(self) -> pd.DataFrame:
        return self._table("images")

    @cached_property
    def calibration(self) -> pd.DataFrame:
        return self._table("calibration")

    @cached_property
    def premise(self) -> pd.DataFrame:
        return self._table("premise")

    @cached_property
    def demographics(self) -> pd.DataFrame:
        return self._table("demographics")

    @cached_property
    def published(self) -> pd.DataFrame:
        """Empty where the run's protocol has no thresholds of its own."""
        return self._extra(PUBLISHED)

    @cached_property
    def prompts(self) -> pd.DataFrame:
        """Empty where the run's protocol gives no figures by prompt."""
        return self._extra(PROMPTS)

    def _extra(self, name: str) -> pd.DataFrame:
        there = (self.path / table_file(name)).is_file()
        return self._table(name) if there else make_table(name, [])

    @cached_property
    def nearest(self) -> pd.DataFrame:
        """Empty but for evaluations."""
        return self._extra(NEAREST)

    @cached_property
    def summary(self) -> pd.DataFrame:
        return self._table("summary")

    def check_made(self) -> None:
        """Raises UserError for an evaluation of given images, in which no model was made."""
        if self.config.get("kind") == EVALUATION:
            raise UserError(f"{self.path} is an evaluation of images, with no model behind it: give a run folder")

    @property
    def failed(self) -> pd.DataFrame:
        """The rows of `cells` that did not finish."""
        return self.cells[self.cells["status"] != "ok"]

    def picture(self, relative: str | Path) -> np.ndarray | None:
        """An image of the run as uint8 [H, W, 3] RGB; None when it is absent, unreadable or outside the folder.

        A run folder may come from somebody else: a path in it must not reach other files.
        """
        path = self._inside(relative)
        if path is None or not path.is_file():
            return None
        try:
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None

    def pictures(self, *parts: str) -> list[np.ndarray]:
        """All images right in a subfolder, in order of their names; unreadable ones are left out."""
        folder = self._inside(Path(*parts))
        if folder is None or not folder.is_dir():
            return []
        files = sorted(folder.glob("*.png"), key=lambda p: (len(p.stem), p.stem))
        found = [self.picture(file.relative_to(self.path.resolve())) for file in files]
        return [image for image in found if image is not None]

    def subfolders(self, *parts: str) -> list[str]:
        """Names of the folders right in a subfolder, sorted."""
        folder = self._inside(Path(*parts))
        return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder is not None and folder.is_dir() else []

    def _inside(self, relative: str | Path) -> Path | None:
        root = self.path.resolve()
        try:
            path = (root / relative).resolve()
        except (OSError, ValueError):
            return None
        return path if path.is_relative_to(root) else None

    def _check_schema(self) -> None:
        found = self.config.get("schema")
        if found == SCHEMA:
            return
        writer = self.config.get("iddmbench", "an unknown version")
        newer = isinstance(found, int) and found > SCHEMA
        fix = "upgrade iddmbench" if newer else "repeat the run, or read it with that version"
        raise UserError(
            f"run {self.path} has schema version {found} (written by iddmbench {writer}), this one reads {SCHEMA}: {fix}"
        )

    def _check_columns(self, name: str, columns: Mapping[str, type]) -> None:
        try:
            found = pq.read_schema(self.path / table_file(name)).names
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(table_file(name), error) from error
        if missing := [c for c in columns if c not in (*found, *LATER_COLUMNS.get(name, ()))]:
            raise UserError(f"run {self.path} is damaged: {table_file(name)} lacks the columns {', '.join(missing)}")

    def _table(self, name: str) -> pd.DataFrame:
        try:
            frame = pd.read_parquet(self.path / table_file(name))
            columns = {**TABLES, **EXTRA_TABLES}[name]
            frame = frame.assign(**{c: math.nan for c in LATER_COLUMNS.get(name, ()) if c not in frame})
            return frame.astype({column: kind for column, kind in columns.items() if kind is not str})
        except (OSError, ValueError, TypeError, pa.ArrowException) as error:
            raise self._damaged(table_file(name), error) from error

    def _json(self, file: str) -> dict[str, Any]:
        try:
            content = json.loads((self.path / file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._damaged(file, error) from error
        if not isinstance(content, dict):
            raise UserError(f"run {self.path} is damaged: {file} is not a JSON object")
        return content

    def _damaged(self, file: str, error: Exception) -> UserError:
        reason = first_line(error)
        return UserError(f"run {self.path} is damaged: {file} can't be read ({reason}); run the same command again")


def runs_of(path: Path | str) -> list[Path]:
    """The run folders of a sweep, by name; a run folder alone is itself."""
    inner = Path(path) / SWEEP_RUNS
    if (Path(path) / CONFIG).is_file() or not inner.is_dir():
        return [Path(path)]
    return sorted(run for run in inner.iterdir() if (run / CONFIG).is_file())


def latest(runs: Path | str) -> Path:
    """The newest run folder right in `runs`, finished or not, by when its config was written.

    Raises UserError when there is none.
    """
    root = Path(runs)
    found = [p for p in root.iterdir() if (p / CONFIG).is_file()] if root.is_dir() else []
    if not found:
        raise UserError(f"no run folder in {root}: give one, or create one with `iddmbench run`")
    return max(found, key=lambda p: ((p / CONFIG).stat().st_mtime_ns, p.name))
