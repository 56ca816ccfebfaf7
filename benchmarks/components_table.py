"""The utility index and its components, condition by condition: `python benchmarks/components_table.py RUN > table.md`."""

import sys
from pathlib import Path

from iddmbench.results.metric_info import COMPONENTS, INDEX, metric
from iddmbench.results.run_folder import WORST_CASE, RunFolder
from iddmbench.results.summary import Summary, written


def main(path: Path) -> None:
    summary = Summary(RunFolder.open(path))
    names = (*COMPONENTS, INDEX)
    print("| condition | R1-U, strongest | " + " | ".join(metric(name).title for name in names) + " |")
    print("|---" * (len(names) + 2) + "|")
    for condition in summary.conditions:
        privacy = written("r1u", summary.get(condition, "r1u", WORST_CASE))
        values = " | ".join(written(name, summary.get(condition, name)) for name in names)
        print(f"| {condition.title} | {privacy} | {values} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
