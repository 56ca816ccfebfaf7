"""All checks of one plugin, whoever asks: `iddmbench check` or `iddmbench.check`."""

from collections.abc import Callable, Iterator
from typing import Any

from iddmbench.attacker import Attacker
from iddmbench.conformance import Outcome, run_checks
from iddmbench.conformance import attacker as attackers
from iddmbench.conformance import defense as defenses
from iddmbench.defense import Defense
from iddmbench.errors import one_line


def attacker_outcomes(build: Callable[[], Attacker], name: str) -> Iterator[Outcome]:
    """Raises UserError for an attacker that can't run here, before the first check."""
    subject = attackers.AttackerSubject(build, name)
    _ = subject.attacker
    yield from run_checks(attackers.CHECKS, subject)
    yield recognition(subject)


def defense_outcomes(cls: type[Defense], name: str, options: dict[str, Any]) -> Iterator[Outcome]:
    """Raises UserError for a wrong option, before the first check."""
    made = defenses.DefenseSubject(cls, name, options)
    made.build()
    yield from run_checks(defenses.CHECKS, made)


def recognition(subject: attackers.AttackerSubject) -> Outcome:
    """EER and rank 1 on public people, as a last line: no pass or fail."""
    try:
        return Outcome("recognition", "figures", attackers.figures(subject))
    except Exception as error:  # a check above says what is wrong with it
        return Outcome("recognition", "skipped", f"no figures: {one_line(error)}")
