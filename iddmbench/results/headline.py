"""What a run found, in plain sentences."""

import math

from iddmbench.adaptive import about_faces, links_people, parse, simulation_of
from iddmbench.results import selection
from iddmbench.results.findings import read_findings
from iddmbench.results.paired import Comparison, adjusted, against_undefended, compare, comparisons
from iddmbench.results.run_folder import UNION, UNION_ADAPTIVE, WORST_CASE, WORST_CASE_ADAPTIVE, WORST_CASE_TRANSFER
from iddmbench.results.summary import (
    GENERIC,
    UNDEFENDED,
    WIDE,
    Condition,
    Summary,
    Value,
    decimal,
    number,
    per_cent,
    written,
)
from iddmbench.results.variance import columns_of, image_values, split_of

FEW = 4
"""Most defenses that have sentences of their own."""
WHO = {
    WORST_CASE: "the strongest attacker",
    WORST_CASE_ADAPTIVE: "the strongest attacker, including those that prepare for the defense,",
}


def headlines(summary: Summary) -> list[str]:
    """What the strongest single attacker links, what a paired test says of it, what a defense costs; then what limits all this:
    attackers from which nothing can be concluded, intervals that say little, failed cells.

    Of many defenses only the ends of the scale.
    """
    sentences = []
    undefended = next((c for c in summary.conditions if c.defense == UNDEFENDED), None)
    generic = next((c for c in summary.conditions if c.defense == GENERIC), None)
    if len(summary.defenses) > FEW:
        sentences += _ends(summary, undefended, generic)
    else:
        for judge in selection.judges(summary):
            sentences += _strongest(summary, judge, undefended, generic)
        sentences += _compared(summary)
        sentences += _transfer(summary)
        sentences += _union(summary, generic)
        sentences += _past_the_face(summary, undefended)
        sentences += _resimulated(summary, undefended)
        for defense in summary.defenses:
            sentences += _utility(summary, summary.curve(defense)[-1])
        sentences += _seeds(summary)
    sentences += [f"{finding.text}." for finding in read_findings(summary.run.path) if finding.kind == "absent"]
    sentences += _unable(summary, undefended)
    sentences += _wide(summary)
    if not sentences:
        sentences.append("No cell finished, so there is nothing to report yet.")
    if failed := len(summary.run.failed):
        sentences.append(f"{failed} of {len(summary.run.cells)} cells failed; the figures leave them out.")
    return sentences


def _strongest(summary: Summary, judge: str, undefended: Condition | None, generic: Condition | None) -> list[str]:
    parts = []
    before = summary.get(undefended, "rank1_hit", judge) if undefended else None
    if before:
        parts.append(
            f"Undefended, {WHO[judge]} links {_share(before)} of {before.images} images to the right person at rank 1 "
            f"({before.by}{_interval(before, ', ')})."
        )
    for defense in summary.defenses:
        condition = summary.curve(defense)[-1]
        after = summary.get(condition, "rank1_hit", judge)
        if after:
            known = ", which it optimized against" if summary.white_box(condition, after.by) else ""
            lead = "" if before else f"Of {after.images} images, {WHO[judge]} links at rank 1: "
            parts.append(
                f"{lead}{'W' if before or not lead else 'w'}ith {defense} at strength {condition.strength:g}: "
                f"{_share(after)} ({after.by}{known}{_interval(after, ', ')})."
            )
    floor = summary.get(generic, "rank1_hit", judge) if generic else None
    if floor and parts:
        parts.append(f"Without personalization: {_share(floor)} ({floor.by}).")
    return [" ".join(parts)] if parts else []


def _compared(summary: Summary) -> list[str]:
    """Each defense with the undefended model, and defenses with each other."""
    shown = comparisons(summary)
    anchored = [one for one in shown if one.second.defense == UNDEFENDED]
    sentences = [_difference(one) for one in anchored]
    between = [one for one in shown if UNDEFENDED != one.second.defense != one.first.defense]
    return sentences + [_difference(one) for one in between]


def _difference(one: Comparison) -> str:
    first, second = one.first.title, "the undefended model" if one.second.defense == UNDEFENDED else one.second.title
    if one.adjusted is None:
        return f"One subject is not enough to distinguish {first} from {second}."
    found = one.difference
    p = "p < 0.001" if one.adjusted < 0.001 else f"p = {one.adjusted:.2g}"
    span = ""
    if math.isfinite(found.low):
        span = f", 95 % CI {_points(found.low)} to {_points(found.high)}"
    test = f"sign-flip test over {found.subjects} subjects, {p}"
    if not one.apart:
        return f"{first} is not distinguishable from {second} by linked images ({_points(found.value)} points{span}; {test})."
    word = "fewer" if found.value < 0 else "more"
    return f"With {first} {word} images are linked than with {second}: {_points(found.value)} points{span} ({test})."


def _points(share: float) -> str:
    return f"{100 * share:+.0f}".replace("-", "\u2212")


def _transfer(summary: Summary) -> list[str]:
    """How far protection carries to systems that the defense did not see, where it saw some."""
    sentences = []
    for defense in summary.defenses:
        condition = summary.curve(defense)[-1]
        if not any(summary.white_box(condition, name) for name in selection.plain(summary)):
            continue
        found = summary.get(condition, "rank1_hit", WORST_CASE_TRANSFER)
        if found:
            sentences.append(
                f"The strongest attacker that {defense} did not optimize against links {_share(found)} "
                f"({found.by}{_interval(found, ', ')})."
            )
        else:
            sentences.append(
                f"{defense} optimized against every attacker that links the undefended model, so protection against "
                "others is not measured."
            )
    return sentences


def _union(summary: Summary, generic: Condition | None) -> list[str]:
    sentences = []
    for judge in (name for name in selection.beside(summary) if name in (UNION, UNION_ADAPTIVE)):
        who = [n for n in summary.able if about_faces(n)]
        who = [n for n in who if parse(n) is None or (judge == UNION_ADAPTIVE and links_people(n))]
        floor = summary.get(generic, "rank1_hit", judge) if generic else None
        for defense in summary.defenses:
            condition = summary.curve(defense)[-1]
            found = summary.get(condition, "rank1_hit", judge)
            if found and len(who) > 1:
                text = f"Linked by any of {len(who)} attackers with {condition.title}: {_share(found)}"
                if floor:
                    text += f"; without personalization {_share(floor)}, by lucky guesses"
                sentences.append(f"{text}.")
    return sentences


def _past_the_face(summary: Summary, undefended: Condition | None) -> list[str]:
    """What is linked by what surrounds the face: beside the worst cases, which are about faces."""
    sentences = []
    for name in (n for n in summary.able if parse(n) is None and not about_faces(n)):
        before = summary.get(undefended, "rank1_hit", name) if undefended else None
        parts = [f"undefended {_share(before)}"] if before else []
        for condition in (summary.curve(defense)[-1] for defense in summary.defenses):
            if after := summary.get(condition, "rank1_hit", name):
                parts.append(f"with {condition.title} {_share(after)}{_interval(after, ', ')}")
        if parts:
            sentences.append(
                f"Linked at rank 1 without the inner face, by {name}: {'; '.join(parts)}. It is excluded from worst cases."
            )
    return sentences


def _resimulated(summary: Summary, undefended: Condition | None) -> list[str]:
    """What an attacker links that runs the defense itself: among its own candidates, so beside the worst cases."""
    sentences = []
    for name in summary.attackers:
        if (simulation := simulation_of(name)) is None:
            continue
        before = summary.get(undefended, "rank1_hit", name) if undefended else None
        parts = [f"undefended {_share(before)}"] if before else []
        for condition in (summary.curve(defense)[-1] for defense in summary.defenses):
            if after := summary.get(condition, "rank1_hit", name):
                parts.append(f"with {condition.title} {_share(after)}{_interval(after, ', ')}")
        count = min(simulation.candidates or math.inf, max(summary.run.config.get("people", 0), 2))
        if parts:
            sentences.append(
                f"Linked by re-simulation to one of {count} candidates (chance {per_cent(1 / count)} %), by {name}: "
                f"{'; '.join(parts)}. It is excluded from worst cases."
            )
    return sentences


def _unable(summary: Summary, undefended: Condition | None) -> list[str]:
    sentences = []
    for name in summary.attackers:
        counts = parse(name) is None or links_people(name)
        if name not in summary.able and counts and undefended:
            before = summary.get(undefended, "rank1_hit", name)
            sentences.append(
                f"Nothing can be concluded from {name}: it links {written('rank1_hit', before)} of undefended images, hardly "
                "more than guessing. It is excluded from worst cases."
            )
    if undefended and summary.attackers and not summary.able:
        sentences.append("No attacker in this run links the undefended model: the run says nothing about protection.")
    return sentences


def _wide(summary: Summary) -> list[str]:
    found = [
        value
        for defense in summary.defenses
        for judge in selection.judges(summary)
        if (value := summary.get(summary.curve(defense)[-1], "rank1_hit", judge)) and value.says_little
    ]
    if not found:
        return []
    subjects = min(value.subjects for value in found)
    people = "1 subject" if subjects == 1 else f"{subjects} subjects"
    return [
        f"With {people} intervals are wider than {100 * WIDE:.0f} points, too wide to generalize to other people: "
        "run more subjects."
    ]


def _ends(summary: Summary, undefended: Condition | None, generic: Condition | None) -> list[str]:
    """Many defenses: the ones that leave the fewest and the most images linked, and the range of the utility index."""
    sentences = []
    strongest = [summary.curve(defense)[-1] for defense in summary.defenses]
    for judge in selection.judges(summary):
        before, floor = (summary.get(c, "rank1_hit", judge) if c else None for c in (undefended, generic))
        after = [(c, value) for c in strongest if (value := summary.get(c, "rank1_hit", judge))]
        parts = [f"undefended {_share(before)} ({before.by})"] if before else []
        if after:
            best, least = min(after, key=lambda item: item[1].value)
            worst, most = max(after, key=lambda item: item[1].value)
            parts.append(
                f"with {best.defense} {_share(least)} ({least.by}{_interval(least, ', ')}), the fewest of {len(after)} "
                f"defenses{_ties(summary, best, [c for c, _ in after if c != best], judge)}"
            )
            parts.append(f"with {worst.defense} {_share(most)} ({most.by}), the most")
        parts += [f"without personalization {_share(floor)}"] if floor else []
        if parts:
            who = WHO[judge].rstrip(",")
            sentences.append(
                f"Images linked at rank 1 by {who}, each defense at its highest strength: {'; '.join(parts)}."
            )
    if undefended:
        found = adjusted(compare((summary, a), (summary, b)) for a, b in against_undefended(summary))
        fewer = [one.first.defense for one in found if one.apart and one.difference.value < 0]
        if found:
            sentences.append(
                f"{len(fewer)} of {len(found)} defenses have significantly fewer linked images than the undefended model "
                f"(sign-flip tests over subjects, Holm){': ' if fewer else ''}{', '.join(fewer)}."
            )
    index = [(c, value) for c in strongest if (value := summary.get(c, "utility_index"))]
    if index:
        low, least = min(index, key=lambda item: item[1].value)
        high, most = max(index, key=lambda item: item[1].value)
        sentences.append(
            f"The utility index, where 1 is undefended, is between {decimal(least.value)} ({low.defense}) and "
            f"{decimal(most.value)} ({high.defense})."
        )
    return sentences


def _ties(summary: Summary, best: Condition, others: list[Condition], judge: str) -> str:
    found = adjusted(compare((summary, best), (summary, c), judge) for c in others)
    same = sum(not one.apart for one in found)
    return f" (not distinguishable from {same} of the others)" if same else ""


def _utility(summary: Summary, condition: Condition) -> list[str]:
    index, faces = summary.get(condition, "utility_index"), summary.get(condition, "face_detection_rate")
    if index is None:
        return []
    text = f"At strength {condition.strength:g}, {condition.defense} keeps a utility index of {decimal(index.value)}"
    if index.bounded:
        text += f" (95 % CI {decimal(index.low)} to {decimal(index.high)})"
    text += ", where 1 is undefended"
    if faces:
        text += f", and a face is found in {written('face_detection_rate', faces, interval=False)} of its images"
    return [text + "."]


def _seeds(summary: Summary) -> list[str]:
    """Where a run has several seeds, what they have of the variance of the mean, beside people and images."""
    if summary.run.cells["seed"].nunique() < 2:
        return []
    sentences = []
    for condition in (summary.curve(defense)[-1] for defense in summary.defenses):
        by = summary.strongest(condition, WORST_CASE)
        split = split_of(image_values([summary], condition, "r1u", by)) if by else None
        shares = {what: columns_of(split)[f"share_{what}"] for what in ("people", "seeds", "images")} if split else {}
        if shares and all(map(math.isfinite, shares.values())):
            parts = ", ".join(f"{what} {per_cent(share)} %" for what, share in shares.items())
            sentences.append(f"Shares of the variance of R1-U with {condition.title} ({by}): {parts}.")
    return sentences


def _share(value: Value) -> str:
    return f"{per_cent(value.value)} %"


def _interval(value: Value, before: str = "") -> str:
    if not value.bounded:
        return ""
    return f"{before}95 % CI {number('rank1_hit', value.low)} % to {number('rank1_hit', value.high)} %"
