"""The table of docs/protocol.md, "Repeatability": `python benchmarks/repeatability.py --work FOLDER`.

Trains the same cells (undefended, and IDDM at strength 1) with other numbers of threads, with the instructions of an older
processor and with other seeds, each in a process and a cache of its own, and prints by how much images, scores and rates of a
cell differ. Runs already in FOLDER are read, not repeated, so an interrupted measurement resumes. It takes about six minutes of
one core for each setting with two subjects.
"""

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from iddmbench.results.run_folder import RunFolder
from iddmbench.submission.images import hashes

ATTACKERS = ("dlib", "sface")
OLDER = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
"""torch, oneDNN and MKL then take the paths of a processor without AVX-512."""
QUALITY = ("detected", "ser_fiq", "closeness", "adherence")


@dataclass(frozen=True)
class Setting:
    """threads: of the CPU; seed: of the run; environment: variables that the process gets besides."""

    name: str
    threads: int = 1
    seed: int = 0
    environment: dict[str, str] = field(default_factory=dict)


USUAL = Setting("usual")
EQUAL = (
    Setting("again"),
    Setting("threads", threads=2),
    Setting("processor", environment=OLDER),
)
"""The same computation as USUAL, up to its last bits."""
SEEDS = (USUAL, Setting("seed1", seed=1), Setting("seed2", seed=2))
TITLES = {
    "again": "nothing",
    "threads": "2 threads, not 1",
    "processor": "AVX2, not AVX-512",
    "seed": "another seed",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs and caches")
    parser.add_argument("--subjects", default="2")
    parser.add_argument("--only", action="append", help="a setting's name; may be repeated; by default all")
    options = parser.parse_args()
    runs = {}
    for setting in (USUAL, *EQUAL, *SEEDS[1:]):
        folder = options.work / setting.name
        if options.only is None or setting.name in options.only:
            train(setting, options.work, options.subjects)
        if (folder / "summary.parquet").is_file():
            runs[setting.name] = RunFolder.open(folder)
    rows = [compared(s.name, runs["usual"], runs[s.name]) for s in EQUAL if s.name in runs and "usual" in runs]
    seeds = [s.name for s in SEEDS if s.name in runs]
    rows += [compared("seed", runs[a], runs[b]) for a, b in combinations(seeds, 2)]
    if rows:
        show(pd.concat(rows))


def train(setting: Setting, work: Path, subjects: str) -> None:
    """Run the cells of a setting into `work`/NAME, unless they are there already.

    The dataset's photos are embedded once for all settings, which costs as much as a cell and is not what is measured.
    """
    if (work / setting.name / "summary.parquet").is_file():
        return
    shared, cache = work / "cache-photos", work / f"cache-{setting.name}"
    if not shared.is_dir():
        run(["--defense", "generic", "--subjects", "1"], work / "photos", shared, Setting("photos"))
    if not cache.is_dir():
        cache.mkdir()
        shutil.copytree(shared / "embed", cache / "embed")
    run(
        ["--defense", "none", "--defense", "iddm", "--strength", "1", "--subjects", subjects],
        work / setting.name,
        cache,
        setting,
    )


def run(what: list[str], out: Path, cache: Path, setting: Setting) -> None:
    command = [
        sys.executable,
        "-c",
        "from iddmbench.cli import main; main()",
        "run",
        "--no-anchors",
        "--dataset",
        "orl",
        *what,
    ]
    command += [x for name in ATTACKERS for x in ("--attacker", name)]
    command += [
        "--seed",
        str(setting.seed),
        "--threads",
        str(setting.threads),
        "--out",
        str(out),
        "--cache",
        str(cache),
    ]
    subprocess.run(command, check=True, env={**os.environ, **setting.environment}, stdout=sys.stderr)


def stacked(run: RunFolder, rows: pd.DataFrame) -> np.ndarray:
    """uint8 [N, H, W, 3], a run's images."""
    found = [run.picture(path) for path in rows["image"]]
    return np.stack([image for image in found if image is not None])


def compared(change: str, one: RunFolder, other: RunFolder) -> pd.DataFrame:
    """By how much each cell of two runs differs: one row per cell, figures as `show` names them."""
    rows = []
    for (defense, subject), own in one.images.groupby(["defense", "subject"]):
        theirs = of_cell(other.images, str(defense), str(subject))
        pictures = [stacked(one, own), stacked(other, theirs)]
        gray = np.abs(pictures[0].astype(int) - pictures[1]).mean((1, 2, 3))
        bits = (hashes(pictures[0]) != hashes(pictures[1])).sum(1)
        row = {
            "change": change,
            "defense": defense,
            "gray": np.median(gray),
            "bits": np.median(bits),
            "most": bits.max(),
        }
        for name in QUALITY:
            row[name] = abs(own[name].astype(float).mean() - theirs[name].astype(float).mean())
        for name in ATTACKERS:
            a, b = (attacked(r, str(defense), str(subject), name) for r in (one, other))
            found = {
                f"score {name}": abs(a["mated"].mean() - b["mated"].mean()),
                "rank": abs((a["rank"] == 1).mean() - (b["rank"] == 1).mean()),
                "match": abs(a["match_1e-2"].mean() - b["match_1e-2"].mean()),
            }
            row |= {k: max(row.get(k, 0.0), v) for k, v in found.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def of_cell(table: pd.DataFrame, defense: str, subject: str) -> pd.DataFrame:
    return table[(table["defense"] == defense) & (table["subject"] == subject)]


def attacked(run: RunFolder, defense: str, subject: str, attacker: str) -> pd.DataFrame:
    rows = of_cell(run.probes, defense, subject)
    return rows[rows["attacker"] == attacker].sort_values(["prompt", "index"])


def show(table: pd.DataFrame) -> None:
    """One line per change and condition: the median and the largest of its cells, or the largest alone."""
    heads = ["what changed", "condition", "cells", "gray levels", "hash bits, of 256"]
    heads += [f"mean score, {name}" for name in ATTACKERS]
    heads += ["rank-1 rate", "match rate", "faces", "SER-FIQ", "closeness", "adherence"]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for (change, defense), rows in table.groupby(["change", "defense"], sort=False):
        parts = [TITLES[str(change)], f"`{defense}`", str(len(rows))]
        parts.append(f"{rows['gray'].median():.1f}, {rows['gray'].max():.1f}")
        parts.append(f"{rows['bits'].median():.0f}, {rows['most'].max():.0f}")
        parts += [f"{rows[f'score {n}'].median():.3f}, {rows[f'score {n}'].max():.3f}" for n in ATTACKERS]
        parts += [f"{rows[name].max():.2f}" for name in ("rank", "match", "detected")]
        parts += [f"{rows[name].max():.3f}" for name in ("ser_fiq", "closeness", "adherence")]
        print("| " + " | ".join(parts) + " |")


if __name__ == "__main__":
    main()
