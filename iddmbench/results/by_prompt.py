"""Figures by prompt, as the protocol that a run follows gives them: for the report and the terminal."""

from typing import Any

from iddmbench.results.metric_info import metric
from iddmbench.results.run_folder import RunFolder, label
from iddmbench.results.summary import figure_text

Figures = dict[str, Any]
"""Rows of the table `prompts`, by metric."""


def by_prompt(run: RunFolder) -> tuple[list[str], list[tuple[str, str, Figures]]]:
    """The metrics, in order, and (condition, prompt, figures) for each condition and prompt."""
    rows = run.prompts.to_dict("records")
    found: dict[tuple[str, str], Figures] = {}
    for row in rows:
        found.setdefault((label(row["defense"], row["strength"]), row["prompt"]), {})[row["metric"]] = row
    names = list(dict.fromkeys(str(row["metric"]) for row in rows))
    return names, [(condition, prompt, figures) for (condition, prompt), figures in found.items()]


def prompt_table(run: RunFolder) -> tuple[list[str], list[list[str]]]:
    """Header, and one row for each condition and prompt; no rows where there are no such figures."""
    names, found = by_prompt(run)
    rows = []
    for condition, prompt, figures in found:
        texts = [_text(name, figures) for name in names]
        images = str(next(iter(figures.values()))["images"])
        rows.append([condition, prompt, *texts, images])
    return ["Condition", "Prompt", *(metric(name).title for name in names), "Images"], rows


def prompt_lines(run: RunFolder) -> list[str]:
    """One sentence for each condition and prompt, without intervals."""
    names, found = by_prompt(run)
    return [
        f'{condition}, "{prompt}": ' + ", ".join(f"{metric(n).title} {_text(n, figures, False)}" for n in names) + "."
        for condition, prompt, figures in found
    ]


def _text(name: str, figures: Figures, interval: bool = True) -> str:
    row = figures.get(name)
    ends = ("low", "high") if interval else ()
    return figure_text(name, row["value"], *(row[end] for end in ends)) if row else "–"
