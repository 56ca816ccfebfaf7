"""Adaptive attackers: linkers that know the defense and prepare for it. Each wraps face-recognition systems by name.

`finetune:dlib` learns on what the same defense made of *other* subjects, whose identities the attacker knows: it owns the
defense and ran it on people of its own. `iddmbench.adaptive.posts` makes sure that no subject is trained and tested on.
"""

from dataclasses import dataclass

from iddmbench.adaptive.base import Adaptive
from iddmbench.adaptive.cross_post import CrossPost
from iddmbench.adaptive.enrol_generated import EnrolGenerated
from iddmbench.adaptive.finetune import Finetune
from iddmbench.adaptive.fuse import Fuse
from iddmbench.adaptive.likelihood import Likelihood
from iddmbench.adaptive.purified import Purify
from iddmbench.adaptive.threshold import Threshold
from iddmbench.attacker import looks_past_the_face, split_detector
from iddmbench.errors import UserError

KINDS: dict[str, type[Adaptive]] = {
    cls.kind: cls for cls in (Purify, Finetune, Likelihood, Threshold, Fuse, CrossPost, EnrolGenerated)
}
FEWEST_SUBJECTS = 3
"""One to attack and two to learn from, so that what is learned can be cross-validated."""


@dataclass(frozen=True)
class AdaptiveName:
    """A parsed name: kind, and the attackers that it wraps."""

    kind: str
    bases: tuple[str, ...]


def parse(name: str) -> AdaptiveName | None:
    """ "fuse:dlib+sface" taken apart; None for the name of a plain attacker. Raises UserError for a wrong number of bases."""
    kind, colon, rest = name.partition(":")
    if kind not in KINDS:
        return None
    several = KINDS[kind].several
    bases = tuple(part.strip() for part in rest.split("+")) if several else (rest.strip(),)
    if not colon or "" in bases or (several and len(set(bases)) < 2) or any(parse(base) for base in bases):
        example = "fuse:dlib+sface" if several else f"{kind}:sface"
        raise UserError(
            f"adaptive attacker '{name}': write it around {'two' if several else 'one'} plain, as {example}"
        )
    return AdaptiveName(kind, bases)


def links_people(name: str) -> bool:
    """Whether it is an adaptive attacker that links posts to people, rather than to other posts."""
    adaptive = parse(name)
    return adaptive is not None and KINDS[adaptive.kind].links_person


def about_faces(name: str) -> bool:
    """Whether an attacker, adaptive or not, rests on faces alone; one that does not is in no worst case."""
    return not any(looks_past_the_face(root) for root in roots(name))


def roots(name: str) -> tuple[str, ...]:
    """The face-recognition systems that an attacker rests on: itself, or what an adaptive one wraps.

    With another detector it is the same network: "sface:mtcnn" rests on "sface" too, and is white-box where that is.
    """
    adaptive = parse(name)
    bases = adaptive.bases if adaptive else (name,)
    return tuple(dict.fromkeys(root for base in bases for root in (split_detector(base)[0], base)))
