"""What every defense has to keep, checked on a tiny base model in seconds."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import torch

from iddmbench.attacker import build_attacker
from iddmbench.cells.bench import load_surrogate
from iddmbench.conformance import Skip, require
from iddmbench.conformance.tiny_base import same, state, write_base
from iddmbench.datasets.orl import ORL
from iddmbench.defense import Defense, ExtraPhotos, Personalization, Undeclared, Workbench, configure
from iddmbench.defenses.none import NoDefense
from iddmbench.errors import UserError
from iddmbench.faces.detect import YuNet
from iddmbench.models.base import BaseModel, load_base
from iddmbench.personalize.prepared import PreparedBase, prepared
from iddmbench.photos.references import crop_references
from iddmbench.seeds import Seeds


class DefenseSubject:
    """A defense under test, with two photos of an ORL subject and a workbench on the tiny base.

    Args:
        cls: the defense. name: what it is registered as.
        options: that make it quick; none are needed.
    """

    def __init__(self, cls: type[Defense], name: str, options: dict[str, Any] | None = None):
        self.cls, self.name, self.options = cls, name, options or {}

    @classmethod
    def checked(cls, defense: type[Defense], name: str, options: Mapping[str, Any]) -> "DefenseSubject":
        """Raises UserError for a wrong option."""
        subject = cls(defense, name, dict(options))
        subject.build()
        return subject

    def build(self, **options: Any) -> Defense:
        return configure(self.cls, {**self.options, **options})

    @cached_property
    def base(self) -> BaseModel:
        return tiny_base()

    @cached_property
    def references(self) -> np.ndarray:
        return crop_references(ORL().load().subjects[0], self.base, YuNet())[:2]

    def bench(self, **changes: Any) -> Workbench:
        defense = self.build()
        hidden = {
            name: Undeclared(self.name, name) for name in get_args(ExtraPhotos) if name not in defense.extra_photos()
        }
        return workbench(self.base, defense.surrogates(), **{**hidden, **changes})

    def prepare(self, defense: Defense, bench: Workbench) -> PreparedBase:
        """As a cell prepares the base: a defense that serves everybody sees no photo and no subject."""
        if not defense.once:
            return defense.prepare(self.references, bench)
        return defense.prepare(self.references[:0], replace(bench, subject="", surrogate_photos=self.references[:0]))

    def act(self, defense: Defense, bench: Workbench) -> tuple[np.ndarray, Personalization, np.ndarray]:
        """Protected references, model and released images (of images that are the references themselves)."""
        made = self.prepare(defense, bench) if defense.strength else PreparedBase()  # as a cell does
        with prepared(bench.base, made, defense.strength):
            protected = defense.protect(self.references, bench)
            return protected, defense.personalize(protected, bench), defense.release(self.references, bench)

    @cached_property
    def result(self) -> tuple[np.ndarray, Personalization, np.ndarray]:
        with global_seed(7):
            return self.act(self.build(), self.bench())

    @cached_property
    def preparation(self) -> PreparedBase:
        with global_seed(7):
            return self.prepare(self.build(), self.bench())


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Global generators in a known state, and as they were afterwards: what depends on them shows under another seed."""
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)


def tiny_base() -> BaseModel:
    with TemporaryDirectory() as folder:
        return load_base(str(write_base(Path(folder))))


def workbench(base: BaseModel, declared: tuple[str, ...] | None, **changes: Any) -> Workbench:
    """As a run gives it: surrogates that the defense did not declare are refused (None: all are given)."""
    public = {person.name: person for person in ORL().load().public}

    def surrogate(name: str) -> Any:
        if declared is not None and name not in declared:
            raise UserError(f"surrogate '{name}' was not declared by `surrogates()`")
        return load_surrogate(name, "cpu")

    parts: dict[str, Any] = {
        "base": base,
        "lora": base.recipe.lora,
        "class_latents": torch.randn(2, 4, 32, 32, generator=Seeds(1).torch()),
        "seeds": Seeds(0).child("defense", "s29"),
        "detector": YuNet(),
        "surrogate": surrogate,
        "subject": "s29",
        "decoys": [public[name].photos[0].image for name in ("s3", "s11", "s20")],
        "strangers": [public[f"s{n}"].photos[0].image for n in range(1, 9)],
    }
    return Workbench(**{**parts, **changes})


def describes_itself(subject: DefenseSubject) -> None:
    cls = subject.cls
    require(cls.name == subject.name, f"`name` is {cls.name!r}, but it is registered as {subject.name!r}")
    require(cls.title, "`title` must be one line for lists and reports")
    require(isinstance(cls.version, int), f"`version` must be an int, got {cls.version!r}")
    for name, field in cls.model_fields.items():
        require(field.description, f"field `{name}` needs a description: it is its help text")


def surrogates_are_attackers(subject: DefenseSubject) -> None:
    names = subject.build().surrogates()
    require(isinstance(names, tuple), f"surrogates() must return a tuple, got {names!r}")
    for name in names:
        require(build_attacker(name).differentiable, f"surrogate '{name}' is not differentiable")


def options_are_checked(subject: DefenseSubject) -> None:
    for options in ({"no_such_option": 1}, {"strength": -0.01}, {"strength": 1.5}, {"strength": float("nan")}):
        try:
            subject.build(**options)
        except UserError:
            continue
        raise AssertionError(f"{options} must be refused (model_config forbids extra fields, strength is in [0, 1])")
    defense = subject.build()
    try:
        defense.strength = 0.3
    except ValueError:
        return
    raise AssertionError("a defense must be frozen: its fields are its identity")


def strength_zero_is_no_defense(subject: DefenseSubject) -> None:
    if subject.cls.anchor:
        raise Skip("a control has no strength")
    protected, result, released = subject.act(subject.build(strength=0), subject.bench())
    plain = configure(NoDefense, {}).personalize(subject.references, subject.bench())
    require(np.array_equal(protected, subject.references), "at strength 0 `protect` must change nothing")
    require(np.array_equal(released, subject.references), "at strength 0 `release` must change nothing")
    equal = same(result.model.weights or {}, plain.model.weights or {})
    require(equal, "at strength 0 `personalize` must give the undefended model, bit for bit")


def shapes_and_types_stand(subject: DefenseSubject) -> None:
    protected, result, released = subject.result
    pictures = {"protect": protected, "release": released, **result.images}
    for name, images in pictures.items():
        fits = isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape == subject.references.shape
        require(fits, f"images of '{name}' must be uint8 {subject.references.shape}")
    for row in result.trace:
        require(np.isfinite(list(row.values())).all(), f"the trace must be finite: {row}")
    require(result.model.settings == subject.bench().lora, "the model's settings must be the workbench's")


def inputs_and_base_are_left_alone(subject: DefenseSubject) -> None:
    before, photos = state(subject.base), subject.references.copy()
    subject.act(subject.build(), subject.bench())
    require(np.array_equal(subject.references, photos), "the photos must not be written to: return new ones")
    require(same(state(subject.base), before), "the base model's weights must not change")


def the_same_seeds_give_the_same_result(subject: DefenseSubject) -> None:
    first = subject.result
    with global_seed(11):
        second = subject.act(subject.build(), subject.bench())
    message = "must be the same bit for bit: draw from bench.seeds only"
    require(np.array_equal(first[0], second[0]), f"protected photos {message}")
    require(np.array_equal(first[2], second[2]), f"released images {message}")
    require(same(first[1].model.weights or {}, second[1].model.weights or {}), f"the model {message}")
    for title, images in first[1].images.items():
        require(np.array_equal(images, second[1].images[title]), f"'{title}' {message}")


def a_prepared_base_is_what_it_says(subject: DefenseSubject) -> None:
    if not subject.cls.acts_on("prepare"):
        raise Skip("it does not prepare the base")
    made = subject.preparation
    require(made.tensors(), "`prepare` gives nothing: then leave it out")
    require(not (subject.cls.prompts_only and made.replaced), "`prompts_only` rules out weights")
    with global_seed(11):
        again = subject.prepare(subject.build(), subject.bench())
        half = subject.prepare(subject.build(strength=0.5), subject.bench())
    require(
        same(made.tensors(), again.tensors()), "the prepared base must be the same bit for bit: use bench.seeds only"
    )
    require(
        same(made.tensors(), half.tensors()), "`prepare` must not look at the strength: it is taken into account later"
    )


def progress_is_a_share(subject: DefenseSubject) -> None:
    shares: list[float] = []
    subject.act(subject.build(), subject.bench(tick=shares.append))
    require(all(0 <= share <= 1 for share in shares), f"bench.tick takes the share done, in [0, 1]: {shares}")


CHECKS: list[Callable[[DefenseSubject], None]] = [
    describes_itself,
    surrogates_are_attackers,
    options_are_checked,
    strength_zero_is_no_defense,
    shapes_and_types_stand,
    inputs_and_base_are_left_alone,
    the_same_seeds_give_the_same_result,
    a_prepared_base_is_what_it_says,
    progress_is_a_share,
]
