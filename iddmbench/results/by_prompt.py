"""Figures by prompt, as the protocol that a run follows gives them: for the report and the terminal."""

import math
from typing import Any

from iddmbench.results.metric_info import metric
from iddmbench.results.run_folder import RunFolder
from iddmbench.results.summary import Summary, figure_text

Figures = dict[str, Any]
"""Rows of the table `prompts`, by metric."""
IN_WORDS = {"fdfr_anti_dreambooth": "FDFR", "ism_anti_dreambooth": "ISM"}
"""Titles where it is said already that the protocol is Anti-DreamBooth's."""


def by_prompt(run: RunFolder) -> tuple[list[str], list[tuple[str, str, Figures]]]:
    """The metrics, in order, and (prompt, condition, figures) for each prompt and condition."""
    names = list(dict.fromkeys(map(str, run.prompts["metric"])))
    found = []
    for prompt in dict.fromkeys(map(str, run.prompts["prompt"])):
        for condition in Summary(run).conditions:
            rows = condition.rows(run.prompts)
            figures = {str(row["metric"]): row for row in rows[rows["prompt"] == prompt].to_dict("records")}
            if figures:
                found.append((prompt, condition.title, figures))
    return names, found


def prompt_table(run: RunFolder) -> tuple[list[str], list[list[str]]]:
    """Header, and one row for each prompt and condition; no rows where there are no such figures."""
    names, found = by_prompt(run)
    rows = []
    for prompt, condition, figures in found:
        images = str(next(iter(figures.values()))["images"])
        rows.append([prompt, condition, *(_text(name, figures) for name in names), images])
    return ["Prompt", "Condition", *map(_title, names), "Images"], rows


def prompt_lines(run: RunFolder) -> list[str]:
    """For each prompt one line, then one for each condition, without intervals."""
    names, found = by_prompt(run)
    lines: list[str] = []
    for i, (prompt, condition, figures) in enumerate(found):
        if not i or found[i - 1][0] != prompt:
            lines.append(f'By prompt, "{prompt}":')
        lines.append(f"{condition}: {', '.join(f'{_title(name)} {_text(name, figures, False)}' for name in names)}")
    return lines


def _title(name: str) -> str:
    return IN_WORDS.get(name, metric(name).title)


def _text(name: str, figures: Figures, interval: bool = True) -> str:
    row = figures.get(name)
    if row is None or math.isnan(row["value"]):
        return "–"
    ends = ("low", "high") if interval else ()
    return figure_text(name, row["value"], *(row[end] for end in ends))
