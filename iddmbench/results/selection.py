"""What the figures and tables of a large run show, so that they stay readable; what is left out is named."""

from collections.abc import Sequence

from iddmbench.adaptive import about_faces as about_faces
from iddmbench.adaptive import knows_posts as knows_posts
from iddmbench.adaptive import links_people, parse
from iddmbench.results.run_folder import UNION, UNION_ADAPTIVE, WORST_CASE, WORST_CASE_ADAPTIVE, WORST_CASE_TRANSFER
from iddmbench.results.summary import Condition, Summary

CONDITIONS = 12
"""Most conditions of a figure at all their strengths; with more, each defense is shown at its highest one."""
LINES = 10
"""Most lines in a panel, the anchors aside."""
PANELS = 6
"""Most attackers that have a panel of their own, adaptive ones after plain ones."""


def plain(summary: Summary) -> list[str]:
    return [name for name in summary.attackers if parse(name) is None]


def searches(attacker: str) -> bool:
    """Whether it ranks the people of the gallery, as plain attackers do; others rank posts."""
    return parse(attacker) is None or links_people(attacker)


def adaptive(summary: Summary) -> list[str]:
    """Adaptive attackers that link people, the one that links most first."""
    found = [name for name in summary.attackers if links_people(name)]
    return sorted(found, key=lambda name: -_links(summary, name))


def judges(summary: Summary) -> list[str]:
    """The worst cases to show: the one with adaptive attackers only where some were run, as it says the same without."""
    return [WORST_CASE, WORST_CASE_ADAPTIVE] if adaptive(summary) else [WORST_CASE]


def beside(summary: Summary) -> list[str]:
    """What stands beside the worst cases, without a rank or a goal: the strongest transfer attacker where some attackers are
    white-box, and the unions where there are several attackers."""
    white = any(summary.white_box(c, a) for c in summary.conditions for a in plain(summary))
    found = [WORST_CASE_TRANSFER] if white else []
    found += [UNION] if len([name for name in plain(summary) if name in summary.able]) > 1 else []
    return found + ([UNION_ADAPTIVE] if adaptive(summary) else [])


def conditions(summary: Summary, most: int = CONDITIONS, lines: int = LINES) -> tuple[list[Condition], str]:
    """The conditions to draw, in order, and what is left out, in words; all of them while they are no more than `most`.

    Else the anchors and each defense at its highest strength; of these, where they are more than `lines`, those that link the
    fewest images.
    """
    if len(summary.conditions) <= most:
        return summary.conditions, ""
    strongest = [summary.curve(defense)[-1] for defense in summary.defenses]
    kept = sorted(strongest, key=lambda c: _linked(summary, c))[:lines]
    left = [c.defense for c in strongest if c not in kept]
    words = "each defense at its highest strength"
    if left:
        words += f"; not drawn because more of their images are linked: {', '.join(left)}"
    return [c for c in summary.conditions if c.strength is None or c in kept], words


def attackers(summary: Summary, most: int = PANELS) -> tuple[list[str], str]:
    """The attackers to draw, and what is left out, in words: plain ones, then adaptive ones, those that link most first."""
    first = plain(summary)
    rest = [name for name in summary.attackers if name not in first]
    ordered = [*first, *sorted(rest, key=lambda name: (not links_people(name), -_links(summary, name)))]
    kept = ordered[: max(most, 1)]
    left = [name for name in summary.attackers if name not in kept]
    return kept, f"without the attackers {', '.join(left)}" if left else ""


def note(parts: Sequence[str]) -> str:
    """One sentence of what several choices left out; empty if they left out nothing."""
    text = "; ".join(dict.fromkeys(part for part in parts if part))
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _links(summary: Summary, attacker: str) -> float:
    """Mean share of linked images over the defenses at their highest strength."""
    found = [summary.get(summary.curve(d)[-1], "rank1_hit", attacker) for d in summary.defenses]
    known = [value.value for value in found if value]
    return sum(known) / len(known) if known else -1.0


def _linked(summary: Summary, condition: Condition) -> float:
    names = (*reversed(judges(summary)), *summary.attackers)
    found = [value for name in names if (value := summary.get(condition, "rank1_hit", name))]
    return found[0].value if found else 2.0
