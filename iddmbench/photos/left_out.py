"""What was left out of a user's photos, in one line: how many, why, and where the full list is."""

from collections import Counter
from collections.abc import Iterable, Sequence

from iddmbench.photos.files import HEIC_NEEDED
from iddmbench.types import Skipped

NAMED = 3
"""People who are named with their reason; further ones are counted."""


def left_out_line(skipped: Sequence[Skipped], where: str = "") -> str:
    """ "Left out: 1 person (ann: 3 usable photos, 6 needed ...) and 2 photos (2 no face found)"; empty if nothing was.

    where: the file that lists all of it.
    """
    people = [one for one in skipped if "/" not in one.name]
    files = [one for one in skipped if "/" in one.name]
    parts = []
    if people:
        named = "; ".join(f"{one.name}: {one.reason}" for one in people[:NAMED])
        more = f"; and {len(people) - NAMED} more" if len(people) > NAMED else ""
        parts.append(f"{len(people)} {'person' if len(people) == 1 else 'people'} ({named}{more})")
    if files:
        counted = ", ".join(f"{count} {reason}" for reason, count in reasons(files))
        parts.append(f"{len(files)} {'file' if len(files) == 1 else 'files'} ({counted})")
    if not parts:
        return ""
    return f"Left out: {' and '.join(parts)}{where and f'; all of it is listed in {where}'}"


def reasons(skipped: Iterable[Skipped]) -> list[tuple[str, int]]:
    """Why photos were left out, in a few words, and how often, most frequent first."""
    return Counter(map(_short, skipped)).most_common()


def _short(one: Skipped) -> str:
    if HEIC_NEEDED in one.reason:
        return HEIC_NEEDED
    if one.reason.startswith("no photo that can be read"):
        return "no photo that can be read"
    return one.reason.partition(":")[0].partition(",")[0].partition(" as ")[0].partition(" (")[0]


def listing(skipped: Iterable[Skipped]) -> str:
    """The full list, one per line."""
    return "".join(f"{one.name}: {one.reason}\n" for one in skipped)
