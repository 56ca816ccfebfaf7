"""The dataset's photos as a run's attackers and its measure of utility see them: slow, and the same for every cell.

They are shared out in parts, so that several processes can look at them before the first cell.
"""

from iddmbench.linking.score import Scoring
from iddmbench.types import Photo

PEOPLE = 12
"""In a part."""


def open_parts(scoring: Scoring) -> list[int]:
    """Numbers of the parts (for `look`) of which something is not stored yet, the longest first; none where an attacker will be
    refused on these photos."""
    return [part for part in range(len(_parts(scoring)) + 1) if _is_open(scoring, part)]


def look(scoring: Scoring, part: int) -> bool:
    """Compute a part and store it: 0 is what utility knows of public people, the others are people's embeddings by every
    attacker. Returns whether all of it was there."""
    if not _is_open(scoring, part):
        return True
    stages = scoring.stages
    if part == 0:
        stages.utility.look_at_public()
        return False
    for photos in _parts(scoring)[part - 1]:
        for attacker in scoring.panel.attackers.systems.values():
            stages.embed_photos(attacker, photos)
    return False


def _is_open(scoring: Scoring, part: int) -> bool:
    stages, systems = scoring.stages, scoring.panel.attackers.systems.values()
    if any(attacker.refusal(stages.data.name) for attacker in systems):
        return False
    if part == 0:
        return not stages.utility.has_public()
    people = _parts(scoring)[part - 1]
    return any(not stages.has_photos(attacker, photos) for photos in people for attacker in systems)


def _parts(scoring: Scoring) -> list[list[tuple[Photo, ...]]]:
    """One person's photos of one role each, as `embed_photos` is asked for them."""
    data = scoring.stages.data
    several = [subject.enrolment for subject in data.subjects]
    several += [subject.references for subject in scoring.subjects if subject.references]
    several += [person.photos for person in data.public]
    return [several[i : i + PEOPLE] for i in range(0, len(several), PEOPLE)]
