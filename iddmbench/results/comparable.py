"""Whether several runs may share a figure."""

from collections.abc import Sequence
from itertools import pairwise

from iddmbench.errors import UserError
from iddmbench.results.metric_info import INDEX_VERSION
from iddmbench.results.run_folder import RunFolder


def check_comparable(runs: Sequence[RunFolder]) -> list[str]:
    """What limits a comparison of the runs, one line each; nothing for runs that differ in the defense alone.

    Raises UserError when they follow different protocols (data, prompts, sampling, base model): their figures mean
    different things.
    """
    for first, second in pairwise(runs):
        if _protocol(first) != _protocol(second):
            raise UserError(
                f"runs {first.name} and {second.name} follow different protocols ({_protocol(first)} and "
                f"{_protocol(second)}: data, prompts, sampling or base model differ), so they can't be compared"
            )
    warnings = []
    for key in ("subjects", "attackers", "seeds"):
        if len({tuple(map(str, run.config.get(key, []))) for run in runs}) > 1:
            warnings.append(f"the runs differ in {key}, which may explain differences between curves")
    return warnings


def check_same_index(runs: Sequence[RunFolder]) -> None:
    """Raises UserError where the runs' utility indices are of different versions: they are made of different things."""
    for first, second in pairwise(sorted(runs, key=lambda run: run.index_version)):
        if first.index_version != second.index_version:
            raise UserError(
                f"the utility indices of runs {first.name} and {second.name} are of versions {first.index_version} and "
                f"{second.index_version}: repeat the older run (what was trained is in the cache)"
            )


def old_index(run: RunFolder) -> str:
    """One line on the utility index of a run of an older version; empty for today's."""
    if run.index_version == INDEX_VERSION:
        return ""
    return (
        f"utility index: of version {run.index_version}, which this one ({INDEX_VERSION}) can't be compared with; repeat the "
        "run for today's"
    )


def _protocol(run: RunFolder) -> str:
    protocol = run.config.get("protocol", {})
    return f"{protocol.get('version')}/{str(protocol.get('hash'))[:12]}"
