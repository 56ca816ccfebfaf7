"""The checks of every kind of plugin, whoever asks: `iddmbench check`, `iddmbench.check`, or a plugin's own test."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from iddmbench.conformance import Outcome, adaptive, attacker, dataset, defense, personalizer, purifier, run_checks
from iddmbench.errors import UserError, one_line
from iddmbench.plugins import Kind

Checks = list[Callable[[Any], None]]


@dataclass(frozen=True)
class Suite:
    """The checks of one kind.

    Attributes:
        subject: what is under test, of a class, its name and its options. Raises UserError for a wrong option, and for a plugin
            that can't run here.
        last: a line of figures, without pass or fail.
    """

    subject: Callable[[Any, str, Mapping[str, Any]], Any]
    checks: Checks
    last: Callable[[Any], Outcome] | None = None


def _attacker(cls: Any, name: str, options: Mapping[str, Any]) -> attacker.AttackerSubject:
    subject = attacker.AttackerSubject(partial(cls.configured, options), name)
    _ = subject.attacker
    try:
        _ = subject.embeddings  # computed once
    except UserError as error:  # a file that can't be read: every check would say so
        raise UserError(f"attacker '{name}' can't run here: {error}") from error
    except Exception:
        return subject  # a check says which, and that it raised
    return subject


def _recognition(subject: attacker.AttackerSubject) -> Outcome:
    """EER and rank 1 on public people."""
    try:
        return Outcome("recognition", "figures", attacker.figures(subject))
    except Exception as error:  # a check above says what is wrong with it
        return Outcome("recognition", "skipped", f"no figures: {one_line(error)}")


SUITES: dict[Kind, Suite] = {
    Kind.defense: Suite(defense.DefenseSubject.checked, defense.CHECKS),
    Kind.attacker: Suite(_attacker, attacker.CHECKS, _recognition),
    Kind.adaptive: Suite(adaptive.AdaptiveSubject, adaptive.CHECKS),
    Kind.purifier: Suite(purifier.PurifierSubject, purifier.CHECKS),
    Kind.personalizer: Suite(personalizer.PersonalizerSubject, personalizer.CHECKS),
    Kind.dataset: Suite(dataset.DatasetSubject, dataset.CHECKS),
}


def outcomes(kind: Kind, plugin: str | type[Any], options: Mapping[str, Any]) -> Iterator[Outcome]:
    """Raises UserError for an unknown plugin or option, or one that can't run here, before the first check.

    Args:
        plugin: the class; or its name, with options where the kind writes them so ("onnx:PATH", "jpeg-75", "finetune:dlib").
    """
    suite = SUITES[kind]
    if isinstance(plugin, type):
        cls, name, given = plugin, plugin.name, dict(options)  # type: ignore[attr-defined]
    else:
        name = plugin
        cls, given = named(kind, name)
        given |= options
    subject = suite.subject(cls, name.partition(":")[0], given)
    yield from run_checks(suite.checks, subject)
    if suite.last:
        yield suite.last(subject)


def named(kind: Kind, name: str) -> tuple[type[Any], dict[str, Any]]:
    """The class of a name, and the options in it."""
    if kind is Kind.attacker:
        from iddmbench.attacker import options_of

        return options_of(name)
    if kind is Kind.purifier:
        from iddmbench.perturb.purifier import split_name

        return split_name(name)
    if kind is Kind.adaptive:
        from iddmbench.adaptive import parse

        if ":" in name and (how := parse(name)) is not None:
            return kind.registry.get(how.kind), dict(how.options)
    return kind.registry.get(name), {}
