"""Figures of a model as the hub shows them on a model's page: `.eval_results/*.yaml` in its repository.

Format: huggingface.co/docs/hub/eval-results. The `id` is that of a benchmark dataset, whose eval.yaml names the tasks.
"""

from pathlib import Path

import yaml

from iddmbench.errors import UserError
from iddmbench.hub import check_repo
from iddmbench.models.base import ALIASES, EMBEDDED
from iddmbench.results.metric_info import metric
from iddmbench.results.run_folder import WORST_CASE, WORST_CASE_ADAPTIVE, RunFolder
from iddmbench.results.summary import Condition, Summary, written

FILE = Path(".eval_results") / "iddmbench.yaml"
TASKS = {
    "r1u": (WORST_CASE, "r1u"),
    "r1u_adaptive": (WORST_CASE_ADAPTIVE, "r1u"),
    "psr_far_1e-2": (WORST_CASE, "psr@1e-2"),
    "psr_far_1e-2_adaptive": (WORST_CASE_ADAPTIVE, "psr@1e-2"),
    "utility_index": ("", "utility_index"),
}
"""Task -> attacker and metric. Higher is better in all of them."""


def check_benchmark(name: str) -> None:
    """Raises UserError for what can't be a dataset of the hub."""
    check_repo(name, "--eval-results")


def eval_results(run: RunFolder, condition: Condition, benchmark: str) -> str:
    """The YAML text: a list of results, in the order of TASKS; what was not measured is left out.

    Args:
        benchmark: OWNER/NAME of the benchmark's dataset.

    Raises UserError where none was measured.
    """
    summary, entries = Summary(run), []
    for task, (attacker, name) in TASKS.items():
        value = summary.get(condition, name, attacker)
        if value is None:
            continue
        by = f", strongest attacker {value.by}" if value.by else ""
        notes = (
            f"{metric(name).title} {written(name, value)}, condition {condition.label}{by}; {_setting(run, value.n)}"
        )
        entries.append({"dataset": {"id": benchmark, "task_id": task}, "value": round(value.value, 6), "notes": notes})
    if not entries:
        raise UserError(f"--eval-results: run {run.name} has no figure of {condition.label} to show")
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=120)


def _setting(run: RunFolder, images: int) -> str:
    people, base = len(run.config["subjects"]), run.config["base"]
    base = base if base in (*EMBEDDED, *ALIASES) else "custom"  # a folder's path says nothing to others
    return (
        f"{images} images of {people} {'person' if people == 1 else 'people'} of {run.config['dataset']} on base "
        f"{base}, iddmbench {run.config.get('iddmbench', '')}, protocol {run.config['protocol']['hash'][:12]}"
    )
