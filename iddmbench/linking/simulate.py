"""The models of an attacker that runs the defense itself: which cells they are, and how many."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from iddmbench.adaptive import simulation_of
from iddmbench.adaptive.posts import Simulation
from iddmbench.cells.cell import Cell
from iddmbench.cells.condition import PlannedCondition
from iddmbench.errors import UserError
from iddmbench.results.findings import FACT, Finding
from iddmbench.seeds import Seeds
from iddmbench.types import Subject


def candidates(simulation: Simulation, tested: Sequence[Subject], everybody: Sequence[Subject]) -> list[Subject]:
    """Whose models are simulated: the run's own subjects, each of whom is a target, then others of the dataset until there are
    enough."""
    known = {subject.label for subject in tested}
    rest = [subject for subject in everybody if subject.label not in known]
    count = len(rest) if simulation.candidates is None else max(0, simulation.candidates - len(tested))
    return [*tested, *rest[:count]]


def attacker_seeds(simulation: Simulation, own: int) -> list[int]:
    """Seeds of the attacker's models. They do not depend on the seed of the run (`own`), which nobody tells it, unless that has
    leaked; so several seeds of a run share them."""
    if simulation.leaked:
        return [own]
    return [Seeds(0).child("attacker", "resimulate", key).value() % 2**31 for key in range(simulation.keys)]


def simulated_cells(
    simulation: Simulation, condition: PlannedCondition, seed: int, people: Sequence[Subject]
) -> list[Cell]:
    """One per candidate and key, by candidate: the condition's defense on enrolment photos, which the person's own model never
    saw, as many as it has references."""
    seeds = attacker_seeds(simulation, seed)
    return [Cell(on_other_photos(person), condition.defense, s) for person in people for s in seeds]


def on_other_photos(subject: Subject) -> Subject:
    return replace(subject, references=subject.enrolment[: len(subject.references)], enrolment=(), surrogate=())


def check_simulation(attackers: Sequence[str], conditions: Sequence[PlannedCondition]) -> None:
    """Raises UserError for an attacker that runs a defense which can't be run on other photos."""
    for name in attackers:
        for condition in conditions:
            if simulation_of(name) and not condition.defense.reruns:
                raise UserError(
                    f"attacker '{name}' runs the defense on other photos, which '{condition.defense.name}' does not allow: "
                    "leave out one of them"
                )


def cost_findings(
    attackers: Sequence[str],
    conditions: Sequence[PlannedCondition],
    tested: Sequence[Subject],
    everybody: Sequence[Subject],
) -> Iterator[Finding]:
    """What re-simulation costs and what a guess gets, for the table `premise`: said before anything is trained."""
    for name in attackers:
        simulation = simulation_of(name)
        if simulation is None:
            continue
        people = candidates(simulation, tested, everybody)
        seeds = {s for c in conditions for cell in c.cells for s in attacker_seeds(simulation, cell.seed)}
        own = sum(len(condition.cells) for condition in conditions)
        chosen = min(simulation.candidates or len(people), len(people))
        text = (
            f"{name} trains {len(people) * len(seeds) * len(conditions)} models of its own beside the run's {own} "
            f"({len(people)} people, seeds: {len(seeds)}, conditions: {len(conditions)}), stored like these; it links to one "
            f"of {chosen} candidates (chance {1 / chosen:.1%})"
        )
        yield Finding("simulated", FACT, "", "", name, text)
