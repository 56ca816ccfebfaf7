"""The leaderboard's data: a folder of accepted entries, and who stands where."""

import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from iddmbench.errors import UserError
from iddmbench.leaderboard.entry import Entry, Rank, make_entry, read_entry, write_entry
from iddmbench.metrics.estimate import LEVEL
from iddmbench.metrics.paired import holm, paired_difference
from iddmbench.report.contact_sheet import contact_sheet
from iddmbench.results.run_folder import label
from iddmbench.seeds import Seeds
from iddmbench.store.files import replacing
from iddmbench.submission.authenticity import Known
from iddmbench.submission.images import BITS, from_hex, to_hex
from iddmbench.submission.read import strict_json
from iddmbench.submission.verify import Verification

ENTRIES, ANCHORS = "entries", "anchors"
HASHES, SHEET = "hashes.json", "sheet.png"


@dataclass(frozen=True)
class Place:
    """Where an entry stands among those of its track, against one judge by one metric.

    Attributes:
        rank: 1 + the number of entries that are above it by more than chance; None where it is not ranked.
        tied: ids of ranked entries that can't be told from it.
    """

    entry: Entry
    standing: Rank | None
    rank: int | None
    tied: tuple[str, ...]


def read_entries(board: Path) -> list[Entry]:
    """All entries, by date and name. Raises UserError for one that is not valid: a broken board is not shown."""
    if board.is_file():
        raise UserError(f"{board} is a file: give the leaderboard's folder, the one that holds {ENTRIES}/")
    folder = board / ENTRIES
    found = [read_entry(p) for p in sorted(folder.iterdir()) if p.is_dir()] if folder.is_dir() else []
    return sorted(found, key=lambda e: (e.added, e.name.casefold(), e.id))


def places(entries: Sequence[Entry], judge: str, metric: str) -> list[Place]:
    """The entries of one track by falling hypervolume, ranked ones first, then those without a rank by name.

    Two entries are told apart by the exact sign-flip test of their subjects' shares of the hypervolume, at 5 % after Holm
    over all pairs of the table; else they tie. Ties are not transitive, so ranks may repeat and be skipped: A ties with B
    and B with C, while A is above C. With fewer than six subjects nothing is told apart.
    """
    standing = {e.id: e.standing(judge, metric) for e in entries}
    ranked = [e for e in entries if standing[e.id] is not None and not e.unranked]
    ranked.sort(key=lambda e: (-_rank(standing, e).value, e.name.casefold(), e.id))
    apart = told_apart({e.id: areas(_rank(standing, e)) for e in ranked})
    found = []
    for i, entry in enumerate(ranked):
        above = [o for o in ranked[:i] if frozenset((o.id, entry.id)) in apart]
        tied = [o.id for o in ranked if o is not entry and frozenset((o.id, entry.id)) not in apart]
        found.append(Place(entry, standing[entry.id], 1 + len(above), tuple(tied)))
    rest = sorted((e for e in entries if e not in ranked), key=lambda e: (e.name.casefold(), e.id))
    return [*found, *(Place(e, standing[e.id], None, ()) for e in rest)]


def areas(rank: Rank) -> dict[str, float]:
    """Subject -> its share of the hypervolume."""
    return {subject: share.area for subject, share in rank.per_subject.items()}


def told_apart(shares: Mapping[str, Mapping[str, float]]) -> set[frozenset[str]]:
    """The pairs of ids that a paired test over the subjects of both tells apart."""
    pairs, p_values = [], []
    for first, second in combinations(sorted(shares), 2):
        both = [s for s in shares[first] if s in shares[second]]
        pairs.append(frozenset((first, second)))
        if both:
            a, b = ([shares[name][s] for s in both] for name in (first, second))
            rng = Seeds(0).child("board", first, second).numpy()
            p_values.append(paired_difference(a, b, rng).p_value)
        else:
            p_values.append(None)
    adjusted = holm(p_values)
    return {pair for pair, p in zip(pairs, adjusted, strict=True) if p is not None and p <= 1 - LEVEL}


def known_images(board: Path) -> dict[str, Known]:
    """Hashes of all accepted images, by the entries' ids."""
    found: dict[str, Known] = {}
    folder = board / ENTRIES
    for path in sorted(folder.glob(f"*/{HASHES}")) if folder.is_dir() else []:
        cells: dict[str, list[np.ndarray]] = {}
        try:
            for condition in strict_json(path.read_bytes(), str(path)).values():
                for cell, texts in condition.items():
                    bits = np.stack([from_hex(t) for t in texts]) if texts else np.zeros((0, BITS), bool)
                    cells.setdefault(cell, []).append(bits.reshape(-1, BITS))
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} does not contain image hashes: add that entry again") from error
        entry = read_entry(path.parent)
        found[entry.id] = Known(entry.defense, entry.track, cells, entry.authors)
    return found


def add(
    board: Path, found: Verification, name: str, replace: bool = False, despite: bool = False, day: date | None = None
) -> Entry:
    """Put a verified submission on the board as `entries/NAME`.

    Args:
        replace: it takes the place of an entry of that name.
        despite: differences from claims, and retrained cells that differ, are not a reason to refuse; they are shown.

    Raises UserError when it is refused, or the name is taken.
    """
    target = board / ENTRIES / name
    if target.exists() and not replace:
        raise UserError(f"the leaderboard has an entry '{name}': give another --id, or --replace it")
    if found.refused:
        raise UserError(f"'{found.bundle.meta.name}' is refused: {found.refused[0]}")
    if not found.accepted and not despite:
        raise UserError(
            f"'{found.bundle.meta.name}' differs from its claims: see above; --despite-differences adds it anyway"
        )
    entry = make_entry(found, name, day or today())
    stream = io.BytesIO()
    sheet = contact_sheet(found.run).quantize(160, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    sheet.save(stream, format="PNG", optimize=True)  # a palette: a third of the size, as the repository keeps it
    with replacing(target) as part:
        write_entry(entry, part)
        (part / HASHES).write_text(json.dumps(_hashes(found), indent=0), encoding="utf-8")
        (part / SHEET).write_bytes(stream.getvalue())
        shutil.rmtree(target, ignore_errors=True)
    return read_entry(target)


def today() -> date:
    """SOURCE_DATE_EPOCH where it is set (reproducible builds), else the day."""
    from datetime import UTC, datetime

    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.fromtimestamp(int(epoch), UTC).date() if epoch else datetime.now(UTC).date()


def by_track(entries: Sequence[Entry]) -> Mapping[str, list[Entry]]:
    """Entries by track, the track with most entries first."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.track, []).append(entry)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def _hashes(found: Verification) -> dict[str, dict[str, list[str]]]:
    kept: dict[str, dict[str, list[str]]] = {}
    for one in found.posted:
        if one.cell.strength is None:
            continue  # every submission has the anchors
        condition = kept.setdefault(label(one.cell.defense, one.cell.strength), {})
        condition[f"{one.cell.subject}/{one.cell.seed}"] = [
            to_hex(b) for b, flat in zip(one.bits, one.flat, strict=True) if not flat
        ]
    return kept


def _rank(standing: Mapping[str, Rank | None], entry: Entry) -> Rank:
    found = standing[entry.id]
    assert found is not None
    return found
