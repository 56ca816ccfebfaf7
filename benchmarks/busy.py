"""How long a personalization step takes on idle and on busy cores, by threads and by how threads wait.

    python benchmarks/busy.py [--busy 0 1 2] [--steps 20]

Each figure is from a separate process on the embedded base: "active" threads spin while they wait (OMP_WAIT_POLICY; the default
of GNU OpenMP), "passive" ones sleep, as `import iddmbench` sets it. Threads "auto" is the number that `--threads 0` uses. Run
it on an idle machine: the benchmark starts the busy processes itself.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

SPIN = "while True: pass"


def child(threads: int, steps: int) -> None:
    """Print the seconds of each step, and the number of threads, as JSON."""
    from iddmbench.cells.cell import Cell
    from iddmbench.cells.stages import CellStages
    from iddmbench.datasets.orl import ORL
    from iddmbench.defense import DEFENSES, configure
    from iddmbench.models.base import load_base
    from iddmbench.run.torch_setup import set_threads
    from iddmbench.store.cache import Store, default_cache

    set_threads(threads)
    import torch

    base, data = load_base("micro"), ORL().load()
    stages = CellStages(base, data, Store(default_cache()), base.recipe.lora, base.recipe.sampling, (), 1)
    bench = stages.bench(Cell(data.subjects[0], configure(DEFENSES.get("none"), {}), 0))
    references = stages.crops.references(data.subjects[0])
    latents, condition = bench.encode(references), bench.condition(references)
    seconds = []
    with bench.trainer() as trainer:
        trainer.train(latents, condition, 3)
        for _ in range(steps):
            start = time.perf_counter()
            trainer.train(latents, condition, 1)
            seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "threads": torch.get_num_threads()}))


@contextmanager
def busy(count: int) -> Iterator[None]:
    """That many other processes, each keeping a core busy."""
    others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure(threads: int, policy: str, steps: int) -> tuple[list[float], int]:
    kept = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    command = [sys.executable, __file__, "--child", str(threads), "--steps", str(steps)]
    done = subprocess.run(command, env={**kept, "OMP_WAIT_POLICY": policy}, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return found["seconds"], found["threads"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="other busy processes")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 0], help="0 is auto")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        child(given.child, given.steps)
        return
    print("| other busy processes | threads | waiting | step, median s | 5 % to 95 % |\n|---|---|---|---|---|")
    for count in given.busy:
        for threads in given.threads:
            for policy in ("active", "passive"):
                with busy(count):
                    time.sleep(1)
                    seconds, used = measure(threads, policy, given.steps)
                ends = statistics.quantiles(seconds, n=20)
                name = f"auto ({used})" if threads == 0 else str(threads)
                middle = statistics.median(seconds)
                print(f"| {count} | {name} | {policy} | {middle:.3f} | {ends[0]:.3f} to {ends[-1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
