"""What a run found, in plain sentences."""

from iddmbench.adaptive import KINDS, parse
from iddmbench.run.folder import WORST_CASE
from iddmbench.run.tables import GENERIC, UNDEFENDED, Condition, Summary, Value, number, written


def headlines(summary: Summary) -> list[str]:
    """One sentence per attacker and defense at its highest strength, one on what that costs, one on failed cells."""
    sentences = []
    undefended = next((c for c in summary.conditions if c.defense == UNDEFENDED), None)
    generic = next((c for c in summary.conditions if c.defense == GENERIC), None)
    plain = [attacker for attacker in summary.attackers if parse(attacker) is None]
    for attacker in plain:
        sentences += _attacker(summary, attacker, undefended, generic)
    sentences += _adaptive(summary, [attacker for attacker in summary.attackers if attacker not in plain])
    for defense in summary.defenses:
        condition = summary.curve(defense)[-1]
        sentences += _utility(summary, condition)
    if not sentences:
        sentences.append("No cell finished, so there is nothing to report yet.")
    if failed := len(summary.run.failed):
        sentences.append(f"{failed} of {len(summary.run.cells)} cells failed; the figures leave them out.")
    return sentences


def _attacker(summary: Summary, attacker: str, undefended: Condition | None, generic: Condition | None) -> list[str]:
    parts = []
    before = summary.get(undefended, "rank1_hit", attacker) if undefended else None
    if before:
        parts.append(
            f"Undefended, {attacker} links {_share(before)} of {before.images} images to the right person at rank 1."
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
