"""Whether the suite's own code runs on a GPU, and gives what it gives on the CPU: `python benchmarks/sd_steps.py --smoke`.

On a base of a few thousand weights: every personalizer, in every precision and with every way to save memory, the images of
what it trained, every defense, what the purifiers do by the base, and the recognition networks whose files are installed.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sd_base import RandomFace, allow_random_features, photos, workbench

from iddmbench.conformance.tiny_base import write_base
from iddmbench.defense import DEFENSES, Workbench, configure
from iddmbench.errors import UserError, first_line
from iddmbench.models.base import BaseModel, load_base
from iddmbench.nets.dlib_resnet import DlibResNet
from iddmbench.nets.face_net import FaceNet
from iddmbench.nets.sface import SFaceNet
from iddmbench.personalize.prepared import PreparedBase, prepared
from iddmbench.personalize.sample import generate
from iddmbench.personalize.trainer import PersonalizedModel
from iddmbench.perturb.purifier import purifier
from iddmbench.seeds import Seeds

TRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {}),
    "lora with text encoder": ("lora", {"train_text_encoder": True}),
    "dreambooth": ("dreambooth", {"steps": 4, "learning_rate": 1e-4, "prior_batch": 1, "class_images": 2}),
    "dreambooth with text encoder": (
        "dreambooth",
        {"steps": 4, "learning_rate": 1e-4, "prior_batch": 1, "class_images": 2, "train_text_encoder": True},
    ),
    "textual-inversion": ("textual-inversion", {"steps": 4, "batch_size": 2, "learning_rate": 1e-2}),
}
SHORT: dict[str, dict[str, Any]] = {
    "iddm": {"rounds": 2, "data_steps": 2},
    "iddm-keyed": {"rounds": 2, "data_steps": 2},
    "fsmg": {"train_steps": 2, "steps": 2},
    "aspl": {"rounds": 2, "train_steps": 1, "steps": 2},
    "simac": {"rounds": 1, "train_steps": 1, "steps": 2, "selections": 2, "candidates": 2},
    "metacloak": {"pool_steps": (1, 2), "trials": 1, "turns": 1, "steps": 2, "advance": 1},
    "caat": {"steps": 3},
    "advdm": {"steps": 3},
    "mist": {"steps": 3},
    "photoguard": {"steps": 3},
    "anti-diffusion": {"steps": 2, "rounds": 1, "prompt_steps": 1, "train_steps": 1},
    "apl": {"steps": 2, "images": 1, "people": "a: b", "generic": "c"},
    "apdm": {"rounds": 1, "steps": 2, "class_images": 2},
    "lowkey": {"steps": 2, "surrogate": "sface"},
    "cloak": {"steps": 2},
}
"""Options with which a defense takes a moment."""
NO_PHOTOS = ("none", "generic", "protected-photos", "control-alike")
GRAY_LEVELS = 3.0
"""Mean difference up to which images of the CPU and the GPU count as the same."""
PURIFIERS = ("sdedit-0.2", "diffpure-0.05", "upscale-2")
NETWORKS: dict[str, Callable[[], FaceNet]] = {"random-ir50": RandomFace, "sface": SFaceNet, "dlib": DlibResNet}


class Failed(Exception):
    """A check's result is wrong."""


def smoke(device: str, seconds: float) -> int:
    """Print a line for each check; how many failed. No check starts after `seconds`."""
    begun, failed, count = time.perf_counter(), 0, 0
    allow_random_features()
    with tempfile.TemporaryDirectory() as folder:
        for name, check in checks(write_base(Path(folder) / "base"), device):
            if time.perf_counter() - begun > seconds:
                print("the rest is left out: no time")
                break
            count += 1
            try:
                print(f"ok      {name}: {check()}", flush=True)
            except Exception as error:  # one check of many: it is reported
                failed += 1
                print(f"FAILED  {name}: {type(error).__name__}: {first_line(error)}", flush=True)
    print(f"{count - failed} of {count} checks on {device} passed in {time.perf_counter() - begun:.0f} s")
    return failed


def checks(folder: Path, device: str) -> Iterator[tuple[str, Callable[[], str]]]:
    @cache
    def trained(name: str, where: str, precision: str = "fp32", memory: tuple[str, ...] = ()) -> tuple[Any, np.ndarray]:
        base = load_base(str(folder), where, precision, memory)
        return personalized(base, *TRAINED[name])

    def like_the_cpu(name: str) -> str:
        return compared(trained(name, "cpu")[1], trained(name, device)[1])

    def memory(name: str, *ways: str) -> str:
        one, other = (_weights(trained(name, device, memory=m)[0]) for m in ((), ways))
        # AdamW divides by the gradient's size: where that is nearly zero, its last digits show, so the mean counts.
        apart = float(np.mean([float((one[key] - other[key]).abs().mean()) for key in one]))
        if apart > 1e-4:
            raise Failed(f"weights differ by {apart:.1e} on average from those trained as usual")
        return f"weights differ by {apart:.1e} on average from those trained as usual"

    def precise(name: str, precision: str) -> str:
        return compared(trained(name, device)[1], trained(name, device, precision)[1], 40.0)

    for name in TRAINED:
        yield f"{name}, trained and sampled", lambda name=name: like_the_cpu(name)  # type: ignore[misc]
    for name in TRAINED:
        for way in (("checkpoint",), ("offload",), ("checkpoint", "offload")):
            yield f"{name}, {' + '.join(way)}", lambda name=name, way=way: memory(name, *way)  # type: ignore[misc]
        for half in ("bf16", "fp16") if device != "cpu" else ("bf16",):
            yield f"{name}, {half}", lambda name=name, half=half: precise(name, half)  # type: ignore[misc]
    for name in DEFENSES.names():
        if name not in NO_PHOTOS:
            yield f"defense {name}", lambda name=name: defended(folder, name, device)  # type: ignore[misc]
    for name in PURIFIERS:
        yield f"purifier {name}", lambda name=name: purified(folder, name, device)  # type: ignore[misc]
    for name in NETWORKS:
        yield f"network {name}", lambda name=name: embedded(name, device)  # type: ignore[misc]


def compared(one: np.ndarray, other: np.ndarray, limit: float = GRAY_LEVELS) -> str:
    found = float(np.abs(one.astype(int) - other).mean())
    if found > limit:
        raise Failed(f"images differ by {found:.2f} gray levels, more than {limit:g}")
    return f"images differ by {found:.2f} gray levels"


def bench_of(base: BaseModel, personalizer: str = "lora", settings: dict[str, Any] | None = None) -> Workbench:
    return workbench(base, personalizer, settings or {}, tiny=True, side=base.side, class_images=2)


def personalized(base: BaseModel, personalizer: str, settings: dict[str, Any]) -> tuple[PersonalizedModel, np.ndarray]:
    """The model, and four images of it."""
    bench = bench_of(base, personalizer, settings)
    model = bench.personalize(photos(3, base.side, Seeds(3))).model
    images = generate(base, model, list(base.recipe.prompts.evaluation), 2, base.recipe.sampling, Seeds(5))
    plain = generate(
        base,
        PersonalizedModel(None, bench.lora),
        list(base.recipe.prompts.evaluation),
        2,
        base.recipe.sampling,
        Seeds(5),
    )
    if np.array_equal(images, plain):
        raise Failed("training changed no image")
    return model, images


def _weights(model: PersonalizedModel) -> dict[str, torch.Tensor]:
    found = {**(model.weights or {}), **model.replaced}
    return found if model.placeholder is None else {"vectors": model.placeholder.vectors}


def defended(folder: Path, name: str, device: str) -> str:
    """All that a defense does, on the CPU and on the device."""
    images = []
    for where in ("cpu", device):
        base = load_base(str(folder), where)
        bench, defense = bench_of(base), configure(DEFENSES.get(name), SHORT.get(name, {}))
        references = photos(3, base.side, Seeds(3))
        acts = defense.acts_on("prepare")
        made = defense.prepare(references[:0] if defense.once else references, bench) if acts else PreparedBase()
        with prepared(base, made, 1.0):
            protected = defense.protect(references, bench)
            model = defense.personalize(protected, bench).model
            posted = generate(base, model, list(base.recipe.prompts.evaluation), 1, base.recipe.sampling, Seeds(5))
            images.append(np.concatenate([protected, posted, defense.release(posted, bench)]))
    on_cpu, there = images
    return compared(on_cpu, there)


def purified(folder: Path, name: str, device: str) -> str:
    def clean(where: str) -> np.ndarray:
        base = load_base(str(folder), where)
        return purifier(name)(photos(2, base.side, Seeds(3)), Seeds(0), base)

    return compared(clean("cpu"), clean(device))


def embedded(name: str, device: str) -> str:
    """Embeddings and their gradients in the image."""
    try:
        network = NETWORKS[name]()
    except UserError as error:
        return f"left out: {first_line(error)}"
    x, found = torch.from_numpy(photos(2, network.size, Seeds(3))).permute(0, 3, 1, 2).float() / 255, []
    for where in ("cpu", device):
        network.to(where)
        crops = x.to(where).requires_grad_(True)
        vectors = network(crops)
        (gradient,) = torch.autograd.grad(vectors[:, 0].sum(), crops)
        found.append((vectors.detach().cpu(), gradient.flatten(1).cpu()))
    alike = [float(torch.nn.functional.cosine_similarity(a, b).min()) for a, b in zip(*found, strict=True)]
    if min(alike) < 0.99:
        raise Failed(f"cosines of embeddings and gradients with the CPU's: {alike}")
    return f"cosines with the CPU's: embeddings {alike[0]:.6f}, gradients {alike[1]:.6f}"
