"""Seconds per stage of one cell, undefended and under defenses (IDDM unless named), and what the defense costs.

    python benchmarks/stages.py [--base micro] [--subject s29] [DEFENSE ...]

Everything is computed from scratch in a temporary cache. Class images, generated once per base model, are timed separately. The
ratio is of CPU seconds of protection, personalization and release, so that it holds on a shared machine too.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from iddmbench.attacker import ATTACKERS
from iddmbench.cells.cell import Cell
from iddmbench.cells.stages import CellStages
from iddmbench.datasets.orl import ORL
from iddmbench.defense import DEFENSES, configure
from iddmbench.models.base import load_base
from iddmbench.run.plan import choose
from iddmbench.store.cache import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("defenses", nargs="*", default=["iddm"])
    parser.add_argument("--base", default="micro")
    parser.add_argument("--subject", default="s29")
    options = parser.parse_args()
    data = ORL().load()
    base = load_base(options.base)
    (subject,) = choose(data, (options.subject,))
    with tempfile.TemporaryDirectory() as cache:
        lab = CellStages(base, data, Store(Path(cache)), base.recipe.lora, base.recipe.sampling, (), 4)
        start = time.perf_counter()
        lab.class_latents()
        print(f"class images (once per base)  {time.perf_counter() - start:7.1f} s")
        attackers = [ATTACKERS.get(name)() for name in ("dlib", "sface")]
        undefended = 0.0
        for name in ("none", *options.defenses):
            cls = DEFENSES.get(name)
            cell = Cell(subject, configure(cls, cls.presets.get(options.base, {})), 0)
            start = time.process_time()
            outputs = lab.outputs(cell)
            cpu = time.process_time() - start
            undefended = undefended or cpu
            stages = {stage: cost.seconds for stage, cost in outputs.costs.items()}
            stages["embed"] = sum(lab.embed(attacker, outputs)[1].seconds for attacker in attackers)
            row = "  ".join(f"{stage} {seconds:6.1f} s" for stage, seconds in stages.items())
            print(
                f"{name:<12} {row}  cell {sum(stages.values()):6.1f} s  CPU {cpu / undefended:.2f} x undefended",
                flush=True,
            )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
