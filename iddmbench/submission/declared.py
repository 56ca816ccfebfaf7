"""What a bundle declares of its defense: do its options agree with each other, and are its surrogates some?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from iddmbench.adaptive import parse, roots
from iddmbench.defense import DEFENSES, configure
from iddmbench.errors import UserError
from iddmbench.linking.aggregate import Group
from iddmbench.metrics.paired import paired_difference
from iddmbench.run.config import make_config
from iddmbench.seeds import Seeds
from iddmbench.submission.authenticity import title
from iddmbench.submission.names import own_names
from iddmbench.submission.schema import ANCHORS, RunFacts, Submission

LINKS = 0.1
"""Share of the undefended model's images that an attacker must link at rank 1 before it can tell what a defense does to it."""
ALPHA = 0.05
LEAST_DROP = 0.25
"""Of the mean score, in units of `retrain.score_unit`. IDDM and the cloak lower their surrogates' by 1 to 3 units."""


def check_options(meta: Submission) -> None:
    """`defense_options` are what the run was given, and what a page shows; `resolved_options` are what cells are retrained
    from.

    Raises UserError when the installed defense makes other options of the former, or, of a defense that is not installed, when
    a given option stands in the latter with another value.
    """
    if meta.defense in ANCHORS:
        return
    run = meta.run
    stated = dict(run.resolved_options)
    if meta.defense not in DEFENSES.names():
        for key, value in run.defense_options.items():
            if key != "strength" and (key not in stated or _text(stated[key]) != _text(value)):
                _refuse(key, value, stated.get(key))
        return
    made = _options(meta.defense, resolved_options(meta.defense, run))
    stated = _options(meta.defense, stated)
    for key in made:
        if made[key] != stated[key]:
            _refuse(key, made[key], stated[key])


def resolved_options(defense: str, run: RunFacts) -> dict[str, Any]:
    """What an installed defense makes of the options that a run was given, its preset included."""
    given = {key: value for key, value in run.defense_options.items() if key != "strength"}
    config = {
        "defenses": (defense,),
        "defense_options": given,
        "preset": run.preset,
        "base": run.base,
        "anchors": False,
    }
    return make_config(config).plan()[0].model_dump(mode="json")


def _options(defense: str, options: Mapping[str, Any]) -> dict[str, Any]:
    found = configure(DEFENSES.get(defense), dict(options)).model_dump(mode="json")
    return {key: value for key, value in found.items() if key != "strength"}


def _refuse(key: str, given: Any, stated: Any) -> None:
    raise UserError(
        f"option '{key}': the run's options make {given!r:.80}, resolved_options say {stated!r:.80}: they must agree"
    )


def _text(value: Any) -> str:
    """An option as the command line would give it: "6" and 6, "a,b" and ["a", "b"] are one."""
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return repr(float(value))
    except ValueError:
        return str(value).strip().lower()


@dataclass(frozen=True)
class Effect:
    """What a defense does to one of its declared surrogates.

    Attributes:
        drop: mean over subjects of the undefended images' mean score, less the defended ones', in units of the attacker's
            score.
        p: one-sided sign-flip test over subjects, null: no drop.
        subjects: that have a score on both sides.
    """

    attacker: str
    drop: float
    p: float
    subjects: int

    @property
    def shown(self) -> bool:
        """A significant drop of some size. Four subjects and fewer can't reach the usual level: there all of them
        must show it."""
        return self.drop > LEAST_DROP and self.p <= max(ALPHA, 2.0**-self.subjects)


def effects(undefended: Group, defended: Group, surrogates: Sequence[str], units: Mapping[str, float]) -> list[Effect]:
    """The effect on each surrogate that looked at the images and can tell: plain ones that link the undefended model. `units`:
    `retrain.score_unit` by attacker."""
    found = []
    for name in surrogates:
        cells = [s for group in (undefended, defended) for several in group.cells.values() for s in several]
        if not cells or parse(name) is not None or any(name not in s.linkage for s in cells):
            continue
        hits = undefended.per_subject(lambda s, n=name: s.linkage[n].acquired & (s.linkage[n].rank == 1))
        if float(np.mean(np.concatenate(hits))) < LINKS:
            continue
        pairs = [
            (_mean(undefended.cells[subject], name), _mean(defended.cells[subject], name))
            for subject in undefended.cells
            if subject in defended.cells
        ]
        drops = np.array([a - b for a, b in pairs if not math.isnan(a + b)]) / units[name]
        if len(drops):
            found.append(Effect(name, float(drops.mean()), no_drop(drops), len(drops)))
    return found


def no_drop(drops: np.ndarray) -> float:
    """One-sided p value of the sign-flip test that the mean of `drops` [K], one a subject, is no drop."""
    found = paired_difference(drops, np.zeros(len(drops)), Seeds(0).child("surrogates").numpy())
    two_sided = 1.0 if found.p_value is None else found.p_value  # one subject has nothing to flip: its drop is 1 of 2
    return two_sided / 2 if found.value > 0 else 1 - two_sided / 2


def _mean(cells: Sequence[Any], name: str) -> float:
    scores = np.concatenate([s.linkage[name].mated[s.linkage[name].acquired] for s in cells])
    return float(scores.mean()) if len(scores) else math.nan


def false_surrogates(
    groups: Mapping[str, Group], surrogates: Sequence[str], units: Mapping[str, float]
) -> tuple[list[str], list[str]]:
    """(false declarations, notes). A surrogate is judged at the strongest setting that was submitted; one that links its
    images like the undefended ones was never optimized against, and called so to be left out of what is said of unknown
    systems."""
    undefended = groups.get("none")
    defended = [g for g in groups.values() if g.strength > 0 and g.cells]
    ran = {root for name in units for root in roots(name)}
    absent = [name for name in surrogates if name not in ran and not own_names((name,), units)]
    notes = [f"'{name}' is declared as a surrogate and was not run here" for name in absent]
    if undefended is None or not undefended.cells or not defended:
        return [], notes
    strongest = max(defended, key=lambda g: g.strength)
    refused = [
        f"false declaration: '{e.attacker}' is named as a surrogate, but links the images of "
        f"{title(strongest.defense, strongest.strength)} like undefended ones (mean score lower by {e.drop:.2f} units, "
        f"p = {e.p:.2f}, {e.subjects} subjects): name only systems that the defense optimized against"
        for e in effects(undefended, strongest, surrogates, units)
        if not e.shown
    ]
    return refused, notes
