"""What a sweep costs on one GPU, counted from its settings alone: nothing of it needs to be there yet.

Counted are the passes through the UNet and the VAE of Stable Diffusion at 512 pixels, which are nearly all of the time. Runs on
another base have no price: `iddmbench.sweep.estimate` knows what the cache knows of them.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from iddmbench.defense import Defense
from iddmbench.models.recipe import Recipe, TrainingSettings
from iddmbench.run.config import RunConfig
from iddmbench.run.plan import SOME
from iddmbench.store.cache import digest
from iddmbench.sweep.config import Sweep
from iddmbench.sweep.gpu_memory import SMALL, TEXT_GB, UNET_GB, VAE_GB, WORKSPACE_GB, activations_gb, states_gb

BASES = ("sd15", "sd21")
UNET, ENCODE, DECODE = 0.804, 1.117, 2.515
"""TFLOP of a forward pass for one 512-pixel image, by torch's FlopCounterMode on diffusers' classes (tests/test_price.py)."""
BACK_TO_INPUT, BACK_TO_WEIGHTS = 2, 3
"""Forward and backward pass in forward passes: gradients of inputs and adapters alone, or of all weights too."""
MODEL_GB = {"lora": 0.0008, "dreambooth": UNET_GB}
"""A stored model, float32: LoRA of the attention projections per rank, DreamBooth whole."""
PICTURE_GB = 0.45e-3
PEOPLE = {"vggface2": 50, "celebahq": 50, "lfw": 50, "orl": 12, "synthetic": 48}
"""Whom "all" takes of the complete datasets; where the option `public` holds some back, these are left out."""
PARTS = {"tuning": 12, "all": 60}
"""Of `synthetic`, by its option `part`."""
PHOTOS = 4
TFLOPS = 100.0
"""What one GPU is taken to sustain in bf16: a third of an A100's peak; in fp32 half of it."""


@dataclass(frozen=True)
class Price:
    """Of one run on one GPU. What an earlier run of the sweep computes too is counted there.

    hours, memory, disk (GB): None for a base without a price. uncounted: defenses whose own work is not known here.
    """

    run: str
    cells: int
    hours: float | None
    memory: float | None
    disk: float | None
    uncounted: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Work:
    """Of one stage of one cell: TFLOP, GB of GPU memory beside the base's weights, GB on disk."""

    tflop: float
    memory: float
    disk: float


def prices(sweep: Sweep, tflops: float = TFLOPS) -> list[Price]:
    """One for each run. tflops: what the GPU sustains."""
    seen: set[Hashable] = set()
    return [_price(name, config, tflops, seen) for name, config in sweep.runs.items()]


def _price(name: str, config: RunConfig, tflops: float, seen: set[Hashable]) -> Price:
    subjects, plan = people(config), config.plan()
    cells = subjects * len(config.seeds) * len(plan)
    if config.base not in BASES:
        return Price(name, cells, None, None, None)
    recipe = Recipe.model_validate({})
    training, sampling = config.training_settings(recipe), config.sampling_settings(recipe)
    images = len(config.prompts or recipe.prompts.evaluation) * config.images_per_prompt
    picture = sampling.steps * 2 * UNET + DECODE
    shared = (config.dataset, digest(config.dataset_options), config.base, config.precision)
    trained = (*shared, config.personalizer, digest(training.model_dump(mode="json")))
    tflop, memory, disk = 0.0, 0.0, cells * images * PICTURE_GB  # a run folder has copies of its images
    if training.prior_weight and _new(seen, ("class", *trained)):
        tflop += training.class_images * picture
    for defense in plan:
        own = defense.model_dump_json() if not defense.anchor else ""
        secret = (defense.name, own)
        stages: list[tuple[Hashable, _Work]] = []
        if defense.acts_on("protect"):
            stages.append((("protect", *trained, secret), _protect(defense, config)))
        owner = config.threat == "authorized" or defense.anchor
        inside = owner and defense.acts_on("personalize")
        key = secret if inside or defense.acts_on("protect") or defense.acts_on("prepare") else ""
        model = ("model", *trained, key, config.purify if not owner else "")
        stages.append((model, _personalize(config, training, defense, inside)))
        drawn = (model, config.prompts, config.images_per_prompt, digest(sampling.model_dump()))
        stages.append((drawn, _Work(images * picture, activations_gb(1, config.precision, ()), images * PICTURE_GB)))
        for stage, work in stages:
            memory = max(memory, work.memory)
            count = sum(_new(seen, (stage, seed, subjects)) for seed in config.seeds) * subjects
            tflop, disk = tflop + count * work.tflop, disk + count * work.disk
    weights = UNET_GB + TEXT_GB[config.base] + VAE_GB + WORKSPACE_GB
    full = config.precision == "fp32"
    uncounted = {d.name for d in plan if not d.anchor and d.name not in KNOWN}
    hours = tflop / (tflops / 2 if full else tflops) / 3600
    return Price(name, cells, hours, weights + memory, disk, tuple(sorted(uncounted)))


def people(config: RunConfig) -> int:
    """Subjects of the run, of a complete dataset; 1 of a dataset whose size is not known."""
    if isinstance(config.subjects, int):
        return config.subjects
    if not isinstance(config.subjects, str):
        return len(config.subjects)
    there = PEOPLE.get(config.dataset, 1)
    if config.dataset == "synthetic":
        there = PARTS.get(str(config.dataset_options.get("part", "")), there)
    usual = 20 if config.dataset in ("vggface2", "celebahq") else 0
    held = config.dataset_options.get("public", usual) if usual else 0
    everybody = max(1, there - int(held))
    return min(SOME, everybody) if config.subjects == "some" else everybody


def _new(seen: set[Hashable], key: Hashable) -> bool:
    new = key not in seen
    seen.add(key)
    return new


def _personalize(config: RunConfig, training: TrainingSettings, defense: Defense, inside: bool) -> _Work:
    if defense.name == "generic":
        return _Work(0, 0, 0)
    batch = training.batch_size + (training.prior_batch if training.prior_weight else 0)
    whole = config.personalizer not in SMALL
    step = batch * UNET * (BACK_TO_WEIGHTS if whole else BACK_TO_INPUT)
    states = states_gb(config.personalizer, training, config.memory, config.base)
    memory = states + activations_gb(batch, config.precision, config.memory)
    disk = MODEL_GB["dreambooth"] if whole else MODEL_GB["lora"] * getattr(training, "rank", 16)
    tflop = training.steps * step
    if inside and defense.name in DECOUPLING:
        data = _number(defense, "rounds") * _number(defense, "data_steps")
        tflop += data * PHOTOS * BACK_TO_INPUT * (UNET + DECODE)
        memory = max(memory, states + activations_gb(PHOTOS, config.precision, config.memory, decoded=True))
    return _Work(tflop, memory, disk)


def _number(defense: Defense, name: str) -> float:
    value: Any = getattr(defense, name)
    return float(value)


PIXELS = PHOTOS * BACK_TO_INPUT * (UNET + ENCODE)
"""A PGD step on all photos."""
VICTIM = 2 * BACK_TO_WEIGHTS * UNET
"""A training step of a victim: one photo, one class image."""


def _alternating(d: Defense) -> float:
    return _number(d, "rounds") * (2 * _number(d, "train_steps") * VICTIM + _number(d, "steps") * PIXELS)


def _greedy(d: Defense) -> float:
    tried = _number(d, "selections") * (_number(d, "candidates") + 1)
    return _alternating(d) + tried * PIXELS


def _pool(d: Defense) -> float:
    saved = getattr(d, "pool_steps", (1,))
    turn = _number(d, "steps") * _number(d, "samples") * PIXELS + _number(d, "advance") * VICTIM
    return max(saved) * VICTIM + _number(d, "trials") * len(saved) * _number(d, "turns") * turn


def _tuned(d: Defense) -> float:
    attack = _number(d, "steps") * PIXELS
    tuning = PHOTOS * UNET * (_number(d, "prompt_steps") * BACK_TO_INPUT + _number(d, "train_steps") * BACK_TO_WEIGHTS)
    return attack + _number(d, "rounds") * (attack + tuning)


PROTECT: dict[str, Callable[[Defense], float]] = {
    "aspl": _alternating,
    "fsmg": lambda d: _number(d, "train_steps") * VICTIM + _number(d, "steps") * PIXELS,
    "simac": _greedy,
    "metacloak": _pool,
    "caat": lambda d: _number(d, "steps") * PHOTOS * (BACK_TO_WEIGHTS * UNET + BACK_TO_INPUT * ENCODE),
    "advdm": lambda d: _number(d, "steps") * PIXELS,
    "anti-diffusion": _tuned,
    "mist": lambda d: _number(d, "steps") * PIXELS,
    "photoguard": lambda d: _number(d, "steps") * PHOTOS * BACK_TO_INPUT * ENCODE,
    "random-noise": lambda d: 0.0,
}
"""TFLOP of protecting a person's photos."""
VICTIMS = {"aspl": 2, "fsmg": 1, "simac": 2, "metacloak": 7, "anti-diffusion": 1}
"""Copies of UNet and text encoder that are there at once; one of them also has gradients and AdamW's two moments."""
CONTROLS = ("control-person", "control-alike", "control-noise", "control-class")
DECOUPLING = ("iddm", "iddm-keyed")
KNOWN = {*PROTECT, *DECOUPLING, "cloak", "lowkey", "blur", "pixelate", "protected-photos", *CONTROLS}
"""Those that act on outputs take no pass through the base."""


def _protect(defense: Defense, config: RunConfig) -> _Work:
    if defense.name not in PROTECT:
        return _Work(0, 0, 0)
    copies = VICTIMS.get(defense.name, 0)
    states = (copies + 3) * (UNET_GB + max(TEXT_GB.values())) if copies else 0
    memory = states + activations_gb(PHOTOS, config.precision, config.memory, decoded=True)
    return _Work(PROTECT[defense.name](defense), memory, PHOTOS * PICTURE_GB)
