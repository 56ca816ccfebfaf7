"""Attackers whose weights or package are missing: the others run without them, and the run says so."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from iddmbench.adaptive import about_faces, check_name, roots
from iddmbench.attacker import Attacker, build_attacker
from iddmbench.errors import UserError
from iddmbench.guards import errors_of
from iddmbench.results.findings import NOTE, Finding

MENDABLE = ("needs weights:", "needs extra:")
"""How `Attacker.available` begins if one command fixes it."""


NOBODY: Mapping[str, Attacker] = MappingProxyType({})


def problem_of(name: str, own: Mapping[str, Attacker] = NOBODY) -> str:
    """Why an attacker, or one it relies on, can't run here; empty if it can.

    own: attackers by name that are not plugins. Raises UserError for an unknown one.
    """
    if name not in own and not own.keys() & {*roots(name)}:
        check_name(name)
    for root in roots(name):
        with errors_of(f"attacker '{root}'"):
            if problem := (own[root] if root in own else build_attacker(root)).available():
                return problem
    return ""


def absent(names: Sequence[str], own: Mapping[str, Attacker] = NOBODY) -> dict[str, str]:
    """Attackers that one command would install, with that command, by name."""
    found = {name: problem_of(name, own) for name in names}
    # Without the folder in brackets: a run's tables name no place on its machine.
    return {name: problem.partition(" (")[0] for name, problem in found.items() if problem.startswith(MENDABLE)}


def check_attackers(names: Sequence[str], own: Mapping[str, Attacker] = NOBODY) -> None:
    """Raises UserError if no attacker can run here, or one can't for a reason other than a missing file or package."""
    problems = {name: problem for name in names if (problem := problem_of(name, own))}
    wrong = {name: problem for name, problem in problems.items() if not problem.startswith(MENDABLE)}
    if len(problems) == len(names) and problems:
        wrong = wrong or problems
    for name, problem in wrong.items():
        raise UserError(f"attacker '{name}' can't run: {problem}")


def absent_findings(missing: Mapping[str, str], present: Sequence[str]) -> list[Finding]:
    """A note about each that is missing, for the table `premise`. present: the available attackers."""
    judges = sum(map(about_faces, present))
    asked = judges + sum(map(about_faces, missing))
    several = "attacker" if judges == 1 else "attackers"
    over = f": every worst case is over {judges} {several} instead of {asked}" if asked > judges else ""
    return [
        Finding("absent", NOTE, "", "", name, f"attacker '{name}' did not run ({problem}){over}")
        for name, problem in missing.items()
    ]
