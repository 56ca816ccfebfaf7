"""What a reader should know of an entry beside its figures: whose implementation it is, and whether it gains anything."""

from iddmbench.defense import DEFENSES
from iddmbench.leaderboard.entry import Entry
from iddmbench.results.summary import GENERIC, UNDEFENDED

OWN = "iddmbench.defenses"
NO_GAIN = "no gain over a mix of the undefended and the un-personalized model"


def about(entry: Entry, judge: str = "", metric: str = "") -> str:
    """The entry's title, with whose implementation it is, and that it gains nothing where it doesn't."""
    parts = [entry.title, origin(entry)]
    parts += [NO_GAIN] if judge and gains(entry, judge, metric) is False else []
    return " · ".join(part for part in parts if part)


def origin(entry: Entry) -> str:
    """ "our re-implementation, micro preset" for another group's method as it stands in this repository; else empty."""
    if entry.stated or entry.defense not in DEFENSES.names():
        return ""
    found = DEFENSES.get(entry.defense)
    if not found.paper or not found.__module__.startswith(OWN):
        return ""
    whose = "" if "reconstruction" in entry.title else "our re-implementation, "
    return f"{whose}{entry.base} preset"


def gains(entry: Entry, judge: str, metric: str) -> bool | None:
    """Whether some strength is more private than a mix with the same utility: posting undefended images and, for a share of
    them, images of the un-personalized model, whose (utility, privacy) lies on the straight line between the two.

    A strength counts if the low end of its privacy's interval lies above that line. None where an anchor or every interval is
    unknown.
    """
    ends = []
    for anchor in (UNDEFENDED, GENERIC):
        x, y = entry.figure(anchor, None, "utility_index"), entry.figure(anchor, None, metric, judge)
        if x is None or y is None:
            return None
        ends.append((x.value, y.value))
    (u0, p0), (u1, p1) = ends
    found = []
    for defense, strength in entry.conditions:
        x, y = entry.figure(defense, strength, "utility_index"), entry.figure(defense, strength, metric, judge)
        if strength is not None and x is not None and y is not None and y.low is not None and u0 > u1:
            share = min(max((u0 - x.value) / (u0 - u1), 0.0), 1.0)
            found.append(y.low > p0 + share * (p1 - p0))
    return any(found) if found else None
