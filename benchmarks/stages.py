"""Seconds per stage of one cell, undefended and under IDDM, and their ratio.

    python benchmarks/stages.py [--base micro] [--subject s29]

Everything is computed anew in a temporary cache. The class images, made once per base model, are timed on their own.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from iddmbench.attacker import ATTACKERS
from iddmbench.datasets.orl import ORL
from iddmbench.defense import DEFENSES, configure
from iddmbench.models.base import load_base
from iddmbench.run.lab import Cell, Lab
from iddmbench.run.pipeline import choose
from iddmbench.run.store import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="micro")
    parser.add_argument("--subject", default="s29")
    options = parser.parse_args()
    data = ORL().load()
    base = load_base(options.base)
    (subject,) = choose(data, (options.subject,))
    with tempfile.TemporaryDirectory() as cache:
        lab = Lab(base, data, Store(Path(cache)), base.recipe.lora, base.recipe.sampling, (), 4)
        start = time.perf_counter()
        lab.class_latents()
        print(f"class images (once per base)  {time.perf_counter() - start:7.1f} s")
        attackers = [ATTACKERS.get(name)() for name in ("dlib", "sface")]
        totals = {}
        for name in ("none", "iddm"):
            cell = Cell(subject, configure(DEFENSES.get(name), {}), 0)
            outputs = lab.outputs(cell)
            embed = sum(lab.embed(attacker, outputs)[1] for attacker in attackers)
            totals[name] = outputs.seconds["personalize"]
            stages = {**outputs.seconds, "embed": embed}
            row = "  ".join(f"{stage} {seconds:6.1f} s" for stage, seconds in stages.items())
            print(f"{name:<8} {row}  cell {sum(stages.values()):6.1f} s")
    print(f"IDDM's personalization costs {totals['iddm'] / totals['none']:.2f} x the undefended one")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
