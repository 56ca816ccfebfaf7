"""One sentence that anybody understands: what a run found, for whom, and how sure that is."""

from iddmbench.adaptive import about_faces, links_people, parse
from iddmbench.results import selection
from iddmbench.results.paired import Comparison, comparisons
from iddmbench.results.summary import UNDEFENDED, Condition, Summary, Value, per_cent

SEVERAL = 3
"""Most defenses that are named one by one."""
Found = list[tuple[Condition, Value]]


def plain_words(summary: Summary) -> str:
    """Of the worst case at each defense's highest strength; empty where nothing was measured."""
    judge = selection.judges(summary)[-1]
    undefended = next((c for c in summary.conditions if c.defense == UNDEFENDED), None)
    before = summary.get(undefended, "rank1_hit", judge) if undefended else None
    strongest = [summary.curve(defense)[-1] for defense in summary.defenses]
    found = [(c, v) for c in strongest if (v := summary.get(c, "rank1_hit", judge))]
    if undefended and summary.attackers and not summary.able:
        return "In plain words: no face recognition system here recognizes the undefended people, so the run shows nothing."
    if not before and not found:
        return ""
    who = _who([name for name in summary.able if about_faces(name)])
    told = [f"{_share(value)} with {_of(condition)}" for condition, value in _shown(found)]
    told += [f"{_share(before)} without a defense"] if before else []
    text = f"In plain words: {who} names the right person on this share of the generated images: {_listed(told)}"
    if len(found) > SEVERAL:
        text += f" (the best and the worst of {len(found)} defenses)"
    return f"{text}. {_how_sure(summary, found, before)}"


def _who(able: list[str]) -> str:
    prepared = [name for name in able if parse(name) is not None and links_people(name)]
    systems = sum(parse(name) is None for name in able)
    if prepared:
        several = "systems" if systems > 1 else "system"
        return (
            f"the strongest of {systems + len(prepared)} attackers ({systems} face recognition {several}, "
            f"{len(prepared)} prepared for the defense)"
        )
    return f"the strongest of {systems} face recognition systems" if systems > 1 else "face recognition"


def _shown(found: Found) -> Found:
    if len(found) <= SEVERAL:
        return found
    ordered = sorted(found, key=lambda item: item[1].value)
    return [ordered[0], ordered[-1]]


def _how_sure(summary: Summary, found: Found, before: Value | None) -> str:
    values = [value for _, value in _shown(found)] or ([before] if before else [])
    people = min(value.subjects for value in values)
    if people == 1:
        return "Only one person was tested: this says nothing about anybody else."
    if any(value.says_little or not value.bounded for value in values):
        return f"{people} people were tested: this says next to nothing about others."
    what = "these shares lie" if len(values) > 1 else "the share lies"
    ends = f"{per_cent(min(v.low for v in values))} % and {per_cent(max(v.high for v in values))} %"
    defended = " with a defense" if found else ""
    text = f"{people} people were tested; for others like them {what}{defended} between {ends} (95 % confidence)."
    told = comparisons(summary) if before and len(found) <= SEVERAL else []
    return " ".join([text, *(_against(one) for one in told if one.second.defense == UNDEFENDED)])


def _against(one: Comparison) -> str:
    who = _of(one.first)
    if not one.apart:
        return f"Whether {who} makes a difference can't be told from so few people."
    return (
        f"That {who} leaves {'fewer' if one.difference.value < 0 else 'more'} images recognized is not down to chance."
    )


def _of(condition: Condition) -> str:
    return (
        condition.defense if condition.strength is None else f"{condition.defense} at strength {condition.strength:g}"
    )


def _share(value: Value) -> str:
    return f"{per_cent(value.value)} %"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
