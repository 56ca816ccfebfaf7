"""What a base's autoencoder lets through: no personalized model can be linked better than the pictures that it can draw.

`python benchmarks/autoencoder.py --dataset synthetic --attacker dlib --attacker sface` crops each subject's references as
personalization does, encodes and decodes them, and links both by the run's gallery.
"""

import argparse

import numpy as np
import torch

from iddmbench.linking.score import Scoring
from iddmbench.run.config import make_config
from iddmbench.run.plan import RunPlan
from iddmbench.store.cache import default_cache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--base", help="by default the dataset's")
    parser.add_argument("--subject", action="append", help="by default the people on whom settings are chosen, or all")
    parser.add_argument("--attacker", action="append", default=[])
    asked = parser.parse_args()
    settings: dict[str, object] = {
        "dataset": asked.dataset,
        "subjects": tuple(asked.subject) if asked.subject else "all",
        "attackers": tuple(asked.attacker) or ("dlib", "sface"),
        "defenses": ("none",),
        "anchors": False,
    }
    if asked.base:
        settings["base"] = asked.base
    if asked.dataset == "synthetic" and not asked.subject:
        settings["dataset_options"] = {"part": "tuning"}
    config = make_config(settings)
    plan = RunPlan.of(config, default_cache())
    base, scoring = plan.stages.base, Scoring.of(plan.stages, config.attackers, plan.cells)
    hits: dict[tuple[str, str], list[bool]] = {}
    errors = []
    for subject in plan.subjects:
        crops = plan.stages.crops.references(subject)
        with torch.inference_mode():
            pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
            decoded = base.decode(base.encode(pixels)).clamp(0, 1)
        drawn = (decoded.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
        errors.append(float((decoded - pixels).abs().mean()))
        for kind, images in (("crops", crops), ("decoded", drawn)):
            for name, linker in scoring.linkers.items():
                linkage = linker.link(subject.label, linker.attacker.embed(list(images)), [])
                hits.setdefault((name, kind), []).extend((linkage.rank == 1).tolist())
    print(f"{len(plan.subjects)} people, mean error {np.mean(errors):.4f} of [0, 1]")
    print("attacker     crops  decoded")
    for name in scoring.linkers:
        print(f"{name:10s}  {np.mean(hits[name, 'crops']):6.1%}   {np.mean(hits[name, 'decoded']):6.1%}")


if __name__ == "__main__":
    main()
