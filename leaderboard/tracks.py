"""The tracks that the project keeps: data, base model and people that a submission is asked to use.

A submission's track follows from its settings (`iddmbench.submission.anchors.track_of`); any setting makes one. These are the
ones with trusted anchors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from iddmbench.leaderboard.entry import Entry


@dataclass(frozen=True)
class Track:
    """Attributes:
    name: what it is called. title: one line.
    dataset, base, people: what a submission's run must have; the people by name, empty for all subjects of the dataset.
    """

    name: str
    title: str
    dataset: str
    base: str
    people: tuple[str, ...] = ()

    @property
    def options(self) -> str:
        """Of `iddmbench run`, without the defense and its strengths."""
        who = " ".join(f"--subject {name}" for name in self.people) or "--subjects all"
        return f"--dataset {self.dataset} --base {self.base} {who}"

    def holds(self, entry: Entry) -> bool:
        return (entry.dataset, entry.base) == (self.dataset, self.base)


REPORTED = tuple(f"s{tens}{k}" for tens in range(3) for k in range(1, 9))
"""24 people of `synthetic`, twelve women and twelve men, none of them one on whom settings are chosen (s09, s10, s19 ...)."""

TRACKS = (
    Track("orl", "real people, gray photos of the 1990s", "orl", "micro"),
    Track("synthetic", "people who don't exist, in colour", "synthetic", "micro-rgb", REPORTED),
)


def counted(entries: Sequence[Entry]) -> list[tuple[Track, int]]:
    """The tracks in their order, with the number of entries in each."""
    return [(track, sum(map(track.holds, entries))) for track in TRACKS]
