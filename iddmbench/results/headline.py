"""What a run found, in plain sentences."""

from iddmbench.adaptive import KINDS, parse
from iddmbench.results import selection
from iddmbench.results.run_folder import WORST_CASE
from iddmbench.results.summary import GENERIC, UNDEFENDED, Condition, Summary, Value, number, written

FEW = 4
"""Most defenses, and most plain attackers, that have sentences of their own."""


def headlines(summary: Summary) -> list[str]:
    """One sentence per attacker and defense at its highest strength, one on what that costs, one on failed cells.

    Of many attackers only the worst case, and of many defenses only the ends of the scale.
    """
    sentences = []
    undefended = next((c for c in summary.conditions if c.defense == UNDEFENDED), None)
    generic = next((c for c in summary.conditions if c.defense == GENERIC), None)
    plain = [attacker for attacker in summary.attackers if parse(attacker) is None]
    if len(summary.defenses) > FEW:
        sentences += _ends(summary, undefended, generic)
    else:
        for attacker in plain if len(plain) <= FEW else [WORST_CASE]:
            sentences += _attacker(summary, attacker, undefended, generic)
        sentences += _adaptive(summary, [attacker for attacker in summary.attackers if attacker not in plain])
        for defense in summary.defenses:
            sentences += _utility(summary, summary.curve(defense)[-1])
    if not sentences:
        sentences.append("No cell finished, so there is nothing to report yet.")
    if failed := len(summary.run.failed):
        sentences.append(f"{failed} of {len(summary.run.cells)} cells failed; the figures leave them out.")
    return sentences


def _ends(summary: Summary, undefended: Condition | None, generic: Condition | None) -> list[str]:
    """Many defenses: the ones that leave the fewest and the most images linked, and the range of the utility index."""
    sentences = []
    strongest = [summary.curve(defense)[-1] for defense in summary.defenses]
    for judge in selection.judges(summary):
        who = "the worst case" if judge == WORST_CASE else "the worst case with attackers that prepare for the defense"
        before, floor = (summary.get(c, "rank1_hit", judge) if c else None for c in (undefended, generic))
        after = [(c, value) for c in strongest if (value := summary.get(c, "rank1_hit", judge))]
        parts = [f"undefended {_share(before)}"] if before else []
        if after:
            best, least = min(after, key=lambda item: item[1].value)
            worst, most = max(after, key=lambda item: item[1].value)
            parts.append(f"with {best.defense} {_share(least)}{_interval(least)}, the fewest of {len(after)} defenses")
            parts.append(f"with {worst.defense} {_share(most)}, the most")
        parts += [f"without personalization {_share(floor)}"] if floor else []
        if parts:
            sentences.append(
                f"Images linked at rank 1 by {who}, each defense at its highest strength: {'; '.join(parts)}."
            )
    index = [(c, value) for c in strongest if (value := summary.get(c, "utility_index"))]
    if index:
        low, least = min(index, key=lambda item: item[1].value)
        high, most = max(index, key=lambda item: item[1].value)
        sentences.append(
            f"The utility index, where 1 is undefended, is between {least.value:.2f} ({low.defense}) and "
            f"{most.value:.2f} ({high.defense})."
        )
    return sentences


def _attacker(summary: Summary, attacker: str, undefended: Condition | None, generic: Condition | None) -> list[str]:
    parts = []
    before = summary.get(undefended, "rank1_hit", attacker) if undefended else None
    name = "the worst case" if attacker == WORST_CASE else attacker
    if before:
        parts.append(
            f"Undefended, {name} links {_share(before)} of {before.images} images to the right person at rank 1."
        )
    for defense in summary.defenses:
        condition = summary.curve(defense)[-1]
        after = summary.get(condition, "rank1_hit", attacker)
        if after:
            known = ", which optimized against it" if summary.white_box(condition, attacker) else ""
            parts.append(
                f"With {defense} at strength {condition.strength:g}{known}: {_share(after)}{_interval(after)}."
            )
    floor = summary.get(generic, "rank1_hit", attacker) if generic else None
    if floor:
        parts.append(f"Without personalization: {_share(floor)}.")
    return [" ".join(parts)] if parts else []


def _adaptive(summary: Summary, attackers: list[str]) -> list[str]:
    """Of each defense at its highest strength, the attacker that prepared for it and links most people."""
    people = [name for name in attackers if (how := parse(name)) and KINDS[how.kind].links_person]
    sentences = []
    for defense in summary.defenses:
        condition = summary.curve(defense)[-1]
        found = {name: value for name in people if (value := summary.get(condition, "rank1_hit", name))}
        if found:
            name, value = max(found.items(), key=lambda item: item[1].value)
            sentences.append(
                f"An attacker that knows {defense} and prepares for it links up to {_share(value)}{_interval(value)} at "
                f"strength {condition.strength:g} ({name})."
            )
    return sentences


def _utility(summary: Summary, condition: Condition) -> list[str]:
    index, faces = summary.get(condition, "utility_index"), summary.get(condition, "face_detection_rate")
    worst = summary.get(condition, "r1u", WORST_CASE)
    if index is None:
        return []
    text = f"At strength {condition.strength:g}, {condition.defense} keeps a utility index of {index.value:.2f}"
    if index.bounded:
        text += f" (95 % CI {index.low:.2f} to {index.high:.2f})"
    text += ", where 1 is undefended"
    if faces:
        text += f", and a face is found in {written('face_detection_rate', faces, interval=False)} of its images"
    text += "."
    if worst is None:
        text += " Every attacker of this run is one it optimized against, so protection from others is not measured."
    return [text]


def _share(value: Value) -> str:
    return written("rank1_hit", value, interval=False)


def _interval(value: Value) -> str:
    if not value.bounded:
        return ""
    return f" (95 % CI {number('rank1_hit', value.low)} % to {number('rank1_hit', value.high)} %)"
