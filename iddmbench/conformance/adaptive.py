"""What every adaptive attacker has to keep, checked on made-up embeddings: what a defense did to them is known."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from iddmbench.adaptive.base import Adaptive, Gallery, unit
from iddmbench.adaptive.posts import Others, Posts, Scores
from iddmbench.attacker import Attacker, build_attacker
from iddmbench.conformance import Skip, require
from iddmbench.conformance.defense import global_seed, tiny_base
from iddmbench.errors import UserError
from iddmbench.options import read_options
from iddmbench.seeds import Seeds
from iddmbench.types import Embeddings

SUBJECTS, DISTRACTORS, POSTS, WIDTH = 5, 15, 8, 32
NOISE = 0.3
"""Of the posts of the made-up world, as a share of a template's length; every system links them."""


class AdaptiveSubject:
    """An adaptive attacker under test: five subjects with eight posts each, close to their templates, and 15 distractors."""

    def __init__(self, cls: type[Adaptive], name: str, options: Mapping[str, Any] | None = None):
        self.cls, self.name = cls, name
        self.options = read_options(cls.Options, options or {}, f"attacker '{name}'")

    def made(self) -> Adaptive:
        return self.cls([self.gallery] * self.systems, self.options)

    @property
    def systems(self) -> int:
        return 2 if self.cls.several else 1

    @cached_property
    def names(self) -> np.ndarray:
        return np.array([f"p{i:02d}" for i in range(SUBJECTS + DISTRACTORS)])

    @cached_property
    def gallery(self) -> Gallery:
        return Gallery(self.names, unit(Seeds(0).numpy().normal(size=(len(self.names), WIDTH))))

    @cached_property
    def views(self) -> list[Attacker]:
        systems = [build_attacker("lbph") for _ in range(self.systems)]
        return self.made().views(systems, tiny_base())

    @cached_property
    def everyone(self) -> list[Posts]:
        return [self.posts(index) for index in range(SUBJECTS)]

    def posts(self, index: int, lost: bool = False, draw: str = "posts") -> Posts:
        """`lost`: no face in the last post. draw: names the random numbers."""
        rng = Seeds(0).child(draw, index).numpy()
        acquired = np.arange(POSTS) < POSTS - lost
        template = self.gallery.templates[index]

        def seen() -> Embeddings:
            vectors = unit(template + NOISE * rng.normal(size=(POSTS, WIDTH)) / np.sqrt(WIDTH)) * acquired[:, None]
            return Embeddings(vectors.astype(np.float32), acquired)

        views = tuple(seen() for _ in self.views)
        networks = self.networks(str(self.names[index])) if self.made().restoration() else []
        return Posts(str(self.names[index]), views, restored={people: seen() for people in networks})

    def networks(self, target: str) -> list[frozenset[str]]:
        """On whom networks are trained that may restore the target's posts: all others, and those but one."""
        others = {str(name) for name in self.names[:SUBJECTS]} - {target}
        return [frozenset(others), *(frozenset(others - {name}) for name in sorted(others))]

    def scores(self, everyone: list[Posts], index: int = 0) -> Scores:
        target = everyone[index]
        return self.made().fit(self.others(target, everyone)).scores(target)

    def others(self, target: Posts, everyone: list[Posts]) -> Others:
        """With what it would have simulated, where it asks for that: posts of each subject, close to their template too."""
        own = [self.posts(index, draw="simulated") for index in range(SUBJECTS)] if self.made().simulation() else []
        return Others.than(target.subject, everyone, own)


def describes_itself(subject: AdaptiveSubject) -> None:
    cls = subject.cls
    require(cls.name == subject.name, f"`name` is {cls.name!r}, but it is registered as {subject.name!r}")
    require(cls.title, "`title` must be one line for lists and reports")
    require(isinstance(cls.version, int), f"`version` must be an int, got {cls.version!r}")
    for name, field in cls.Options.model_fields.items():
        require(field.description, f"option `{name}` needs a description: it is its help text")
        require(not field.is_required(), f"option `{name}` needs a default: `{cls.name}:FR` alone must work")


def options_are_checked(subject: AdaptiveSubject) -> None:
    try:
        read_options(subject.cls.Options, {"no_such_option": 1}, "attacker")
    except UserError:
        return
    raise AssertionError("an unknown option must be refused: derive Options from AdaptiveOptions")


def its_name_says_its_options(subject: AdaptiveSubject) -> None:
    cls, bases = subject.cls, "+".join(["lbph", "dlib"][: subject.systems])
    text = cls.write_argument(subject.options)
    given, rest = cls.read_argument(f"{text}:{bases}" if text else bases)
    require(rest == bases, f"'{cls.name}:{text}:{bases}' must be read as around {bases}, not {rest}")
    again = read_options(cls.Options, given, "attacker")
    require(again == subject.options, f"'{text}' must be read as the options it was written from")


def views_have_fingerprints(subject: AdaptiveSubject) -> None:
    prints = [view.fingerprint() for view in subject.views]
    again = [
        view.fingerprint() for view in subject.made().views([build_attacker("lbph")] * subject.systems, tiny_base())
    ]
    require(prints == again, "`views` must give the same systems every time: their fingerprints differ")


def what_any_system_links_it_links(subject: AdaptiveSubject) -> None:
    for index in range(SUBJECTS):
        scores = subject.scores(subject.everyone, index)
        hits = scores.ranks(subject.everyone[index].subject) == 1
        require(hits.mean() >= 0.75, f"posts close to their template are linked in {hits.mean():.0%}, expected 75 %")


def the_same_posts_give_the_same_scores(subject: AdaptiveSubject) -> None:
    with global_seed(7):
        first = subject.scores(subject.everyone)
    with global_seed(11):
        second = subject.scores(subject.everyone)
    require(
        np.array_equal(first.values, second.values), "scores must be the same bit for bit: no global random numbers"
    )


def nothing_is_learned_from_the_target(subject: AdaptiveSubject) -> None:
    """`fit` sees other people only; another fit of the same object must not remember them either."""
    made, target = subject.made(), subject.everyone[0]
    others = subject.others(target, subject.everyone)
    first = made.fit(others).scores(target).values
    made.fit(subject.others(subject.everyone[1], subject.everyone))
    again = made.fit(others).scores(target).values
    require(np.array_equal(first, again), "a fit must not depend on earlier ones: keep what is learned in the scorer")


def a_post_without_a_face_is_masked(subject: AdaptiveSubject) -> None:
    everyone = [subject.posts(index, lost=True) for index in range(SUBJECTS)]
    scores = subject.scores(everyone)
    require(not scores.acquired[-1], "`acquired` must be False where no system found a face")
    require(scores.acquired[:-1].all(), "`acquired` must be True where a face was found")
    require(not scores.values[-1].any(), "scores that are not acquired must be zero")


def nobody_else_to_learn_from(subject: AdaptiveSubject) -> None:
    """Cross-fitting with the fewest subjects leaves one other person."""
    if not subject.cls.links_person:
        raise Skip("it links posts, not people")
    scores = subject.scores(subject.everyone[:2])
    require(np.isfinite(scores.values).all(), "scores must be finite with one other person to learn from")


CHECKS: list[Callable[[AdaptiveSubject], None]] = [
    describes_itself,
    options_are_checked,
    its_name_says_its_options,
    views_have_fingerprints,
    what_any_system_links_it_links,
    the_same_posts_give_the_same_scores,
    nothing_is_learned_from_the_target,
    a_post_without_a_face_is_masked,
    nobody_else_to_learn_from,
]
