"""The dataset's photos as a run's attackers and its measure of utility see them: slow, and the same for every cell.

They are shared out in parts, so that several processes can look at them before the first cell.
"""

from collections.abc import Iterator

from iddmbench.attacker import Attacker
from iddmbench.linking.score import Scoring
from iddmbench.types import Photo

PEOPLE = 12
"""In a part."""


def open_parts(scoring: Scoring) -> list[int]:
    """Numbers of the parts (for `look`) of which something is not stored yet, the longest first; none where an attacker will be
    refused on these photos."""
    stages, systems = scoring.stages, scoring.panel.attackers.systems.values()
    if any(attacker.refusal(stages.data.name) for attacker in systems):
        return []
    public = [] if not stages.measures_utility or stages.has_public_people() else [0]
    return public + [
        i
        for i, part in enumerate(_parts(scoring), 1)
        if any(not stages.has_photos(attacker, photos) for photos in part for attacker in systems)
    ]


def look(scoring: Scoring, part: int) -> bool:
    """Compute a part and store it: 0 is what utility knows of public people, the others are people's embeddings by every
    attacker. Returns whether all of it was there."""
    if part not in open_parts(scoring):
        return True
    stages = scoring.stages
    if part == 0:
        _ = stages.public_people
        return False
    people = list(_parts(scoring))[part - 1]
    systems: list[Attacker] = list(scoring.panel.attackers.systems.values())
    for photos in people:
        for attacker in systems:
            stages.embed_photos(attacker, photos)
    return False


def _parts(scoring: Scoring) -> Iterator[list[tuple[Photo, ...]]]:
    """One person's photos of one role each, as `embed_photos` is asked for them."""
    data = scoring.stages.data
    several = [subject.enrolment for subject in data.subjects]
    several += [subject.references for subject in scoring.subjects if subject.references]
    several += [person.photos for person in data.public]
    return (several[i : i + PEOPLE] for i in range(0, len(several), PEOPLE))
