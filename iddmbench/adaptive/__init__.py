"""Adaptive attackers: linkers that know the defense and prepare for it. Each wraps face-recognition systems by name.

`finetune:dlib` learns on what the same defense made of *other* subjects, whose identities the attacker knows: it owns the
defense and ran it on people of its own. `iddmbench.adaptive.posts` makes sure that no subject is trained and tested on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iddmbench.adaptive.base import Adaptive
from iddmbench.adaptive.posts import Restoration, Simulation
from iddmbench.attacker import ATTACKERS, attacker_with, looks_past_the_face, options_of, split_detector
from iddmbench.errors import UserError, did_you_mean
from iddmbench.options import read_options
from iddmbench.registry import Registry

ADAPTIVE: Registry[Adaptive] = Registry(
    "adaptive attacker",
    Adaptive,  # type: ignore[type-abstract]
    {
        "purify": "iddmbench.adaptive.purified:Purify",
        "finetune": "iddmbench.adaptive.finetune:Finetune",
        "likelihood": "iddmbench.adaptive.likelihood:Likelihood",
        "threshold": "iddmbench.adaptive.threshold:Threshold",
        "fuse": "iddmbench.adaptive.fuse:Fuse",
        "cross-post": "iddmbench.adaptive.cross_post:CrossPost",
        "enrol-generated": "iddmbench.adaptive.enrol_generated:EnrolGenerated",
        "resimulate": "iddmbench.adaptive.resimulate:Resimulate",
        "probe": "iddmbench.adaptive.probe:Probe",
        "inverse": "iddmbench.adaptive.inverse:Inverse",
    },
    "iddmbench.adaptive",
    texts=("name", "title"),
)
FEWEST_SUBJECTS = 3
"""One to attack and two to learn from, so that what is learned can be cross-validated."""


@dataclass(frozen=True)
class AdaptiveName:
    """A parsed name: kind, the attackers that it wraps, and the options that it gives."""

    kind: str
    bases: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


def parse(name: str) -> AdaptiveName | None:
    """ "fuse:dlib+sface" taken apart, "finetune:shrinkage=1:dlib" and "purify:jpeg-75:dlib" too; None for the name of a plain
    attacker. Raises UserError for a wrong number of bases."""
    kind, _, rest = name.partition(":")
    if kind not in ADAPTIVE:
        return None
    cls = ADAPTIVE.get(kind)
    options, rest = cls.read_argument(rest)
    bases = tuple(part.strip() for part in rest.split("+")) if cls.several else (rest.strip(),)
    if "" in bases or (cls.several and len(set(bases)) < 2) or any(parse(base) for base in bases):
        example = "fuse:dlib+sface" if cls.several else f"{kind}:sface"
        raise UserError(f"adaptive attacker '{name}': wrap {'two' if cls.several else 'one'} plain, as in {example}")
    return AdaptiveName(kind, bases, options)


def build_adaptive(how: AdaptiveName) -> Adaptive:
    """Without galleries, for what needs none. Raises UserError for a wrong option."""
    cls = ADAPTIVE.get(how.kind)
    return cls([], read_options(cls.Options, how.options, f"attacker '{how.kind}'"))


def links_people(name: str) -> bool:
    """Whether it is an adaptive attacker that links posts to the people of the gallery, rather than to other posts or to
    candidates of its own, and without known posts of theirs."""
    adaptive = parse(name)
    cls = ADAPTIVE.get(adaptive.kind) if adaptive else None
    return cls is not None and cls.links_person and not cls.among_candidates and not cls.knows_posts


def knows_posts(name: str) -> bool:
    """Whether an attacker is given posts that are known to be the target's (`Adaptive.knows_posts`)."""
    adaptive = parse(name)
    return adaptive is not None and ADAPTIVE.get(adaptive.kind).knows_posts


def simulation_of(name: str) -> Simulation | None:
    """What an attacker runs itself before it attacks; None for those that run nothing, and for plain ones."""
    how = parse(name)
    return build_adaptive(how).simulation() if how else None


def restoration_of(name: str) -> Restoration | None:
    """How an attacker restores images before it embeds them; None for those that don't, and for plain ones."""
    how = parse(name)
    return build_adaptive(how).restoration() if how else None


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


def with_options(names: Sequence[str], changes: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Attackers' names with options, {"sface": {"detector": "mtcnn"}}, in them: everything that a name stands for, results and
    keys, then knows of them. Raises UserError for an attacker that is not among the names, and for a wrong option."""
    used: set[str] = set()

    def plain(name: str) -> str:
        kind = name.partition(":")[0]
        if not changes.get(kind):
            return name
        used.add(kind)
        return attacker_with(name, changes[kind])

    def whole(name: str) -> str:
        how = parse(name)
        if how is None:
            return plain(name)
        bases = "+".join(map(plain, how.bases))
        given = changes.get(how.kind, {})
        if twice := [key for key in given if key in how.options]:
            raise UserError(f"attacker '{name}': option '{twice[0]}' is given twice, in the name and by --attacker-set")
        used.update({how.kind} & {*changes})
        cls = ADAPTIVE.get(how.kind)
        read = read_options(cls.Options, {**how.options, **given}, f"attacker '{how.kind}'")
        return ":".join(filter(None, [how.kind, cls.write_argument(read), bases]))

    found = tuple(dict.fromkeys(map(whole, names)))
    for kind in changes:
        if kind not in used:
            known = kind in ATTACKERS or kind in ADAPTIVE
            fix = f"add --attacker {kind}" if known else did_you_mean(kind, [*ATTACKERS.names(), *ADAPTIVE.names()])
            raise UserError(f"--attacker-set {kind}: no attacker in the run is '{kind}': {fix}")
    return found


def check_name(name: str) -> None:
    """Raises UserError for an attacker whose name gives an option that it does not take."""
    how = parse(name)
    if how is not None:
        build_adaptive(how)
    for base in how.bases if how else (name,):
        cls, options = options_of(base)
        read_options(cls.Options, options, f"attacker '{cls.name}'")
