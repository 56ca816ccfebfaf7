"""What an adaptive attacker sees of a condition, as files."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from iddmbench.linking.linker import Feeds, Linkage, Matches
from iddmbench.metrics.verification import Threshold
from iddmbench.store.files import read_arrays, write_arrays

ARRAYS, THRESHOLDS = "linkage.npz", "thresholds.json"
PLAIN = ("acquired", "mated", "nonmated", "rank")


def write_linkages(folder: Path, linkages: Sequence[Linkage]) -> None:
    """Of adaptive attackers, which have neither decoys nor ends of thresholds."""
    arrays: dict[str, np.ndarray] = {}
    thresholds: list[dict[str, Any]] = []
    for i, one in enumerate(linkages):
        arrays |= {f"{i}/{name}": getattr(one, name) for name in PLAIN}
        arrays |= {f"{i}/matched/{rate}": matches.hits for rate, matches in one.matched.items()}
        arrays |= {f"{i}/found/{rate}": matches.hits for rate, matches in one.found.items()}
        for count, feeds in one.feeds.items():
            arrays |= {f"{i}/feeds/{count}/rank": feeds.rank, f"{i}/feeds/{count}/acquired": feeds.acquired}
        thresholds.append(
            {
                "matched": {rate: asdict(matches.threshold) for rate, matches in one.matched.items()},
                "found": {rate: asdict(matches.threshold) for rate, matches in one.found.items()},
                "feeds": list(one.feeds),
            }
        )
    write_arrays(folder / ARRAYS, **arrays)
    (folder / THRESHOLDS).write_text(json.dumps(thresholds), encoding="utf-8")


def read_linkages(folder: Path) -> list[Linkage]:
    """As `write_linkages` was given them, bit for bit."""
    arrays, linkages = read_arrays(folder / ARRAYS), list[Linkage]()
    for i, known in enumerate(json.loads((folder / THRESHOLDS).read_text(encoding="utf-8"))):
        matched, found = (
            {name: Matches(arrays[f"{i}/{kind}/{name}"], Threshold(**t)) for name, t in known[kind].items()}
            for kind in ("matched", "found")
        )
        feeds = {
            count: Feeds(arrays[f"{i}/feeds/{count}/rank"], arrays[f"{i}/feeds/{count}/acquired"])
            for count in known["feeds"]
        }
        plain = {name: arrays[f"{i}/{name}"] for name in PLAIN}
        linkages.append(Linkage(**plain, matched=matched, found=found, feeds=feeds))
    return linkages
