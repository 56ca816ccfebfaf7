"""Steps per second and GPU memory of every personalizer and of IDDM, on random weights in the shape of Stable Diffusion 1.5 at
512 pixels: what a person's cell costs on a GPU, without any download.

    python benchmarks/sd_steps.py --out sd_steps.json --budget 180      # on a GPU
    python benchmarks/sd_steps.py --smoke                               # a tiny base on the GPU, compared with the CPU
    python benchmarks/sd_steps.py --table sd_steps.json --write docs/scale.md
    python benchmarks/sd_steps.py --tiny --out /tmp/x.json              # does the script work? Anywhere, in a minute

Times are medians over up to 10 steps after 3, in the suite's own code and torch settings; memory is torch's peak from the row's
start, base included. A row that fails says why. JSON is written after each row. Of what iddmbench needs, only torch,
transformers, diffusers, peft, pydantic and OpenCV have to be there: networks whose packages are absent get random weights.
"""

import argparse
import gc
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()  # before the imports that take long

import diffusers  # noqa: E402
import torch  # noqa: E402
from sd_base import RandomBase, allow_random_features, photos, workbench  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from iddmbench.defense import DEFENSES, Workbench, configure  # noqa: E402
from iddmbench.models.recipe import Recipe, Sampling  # noqa: E402
from iddmbench.personalize.personalizer import PERSONALIZERS  # noqa: E402
from iddmbench.personalize.sample import generate  # noqa: E402
from iddmbench.personalize.trainer import PersonalizedModel  # noqa: E402
from iddmbench.perturb.pgd import to_signed  # noqa: E402
from iddmbench.run.torch_setup import set_up_torch  # noqa: E402
from iddmbench.seeds import Seeds  # noqa: E402
from iddmbench.sweep.gpu_memory import activations_gb, states_gb, training_gb, weights_gb  # noqa: E402

BEGIN, END = "<!-- sd steps: begin -->", "<!-- sd steps: end -->"
PHOTOS, WARM_UP, TIMED = 4, 3, 10
SECONDS = 3.5
"""A row's timed steps end there, three at least."""
GB = 1e9


@dataclass(frozen=True)
class Row:
    """One measurement.

    what: "train" (a step of the personalizer), "script" (the same step as diffusers' example scripts do it: photos and texts
    through VAE and text encoder each time), "data" (IDDM's), "victim" and "pgd" (ASPL's), "generate".
    memory: `iddmbench.models.base.MEMORY`.
    """

    title: str
    what: str = "train"
    personalizer: str = "lora"
    settings: dict[str, Any] = field(default_factory=dict)
    precision: str = "bf16"
    memory: tuple[str, ...] = ()


LORA = Row("lora")
UNET = Row("dreambooth, UNet only", personalizer="dreambooth")
TEXT = Row(
    "dreambooth, text encoder too (preset anti-dreambooth)",
    personalizer="dreambooth",
    settings={"preset": "anti-dreambooth"},
)
BATCH4 = Row("dreambooth, preset diffusers", personalizer="dreambooth", settings={"preset": "diffusers"})
LORA_TEXT = Row("lora, text encoder too", settings={"train_text_encoder": True})
LORA4 = Row("lora, preset diffusers", settings={"preset": "diffusers"})
WORD = Row("textual-inversion", personalizer="textual-inversion", settings={"preset": "diffusers"})
DATA = Row("IDDM, data step on four photos", "data")
DATA_FULL = Row("IDDM, data step on four photos, with dreambooth", "data", "dreambooth")
VICTIM = Row("ASPL, step of the victim", "victim")
PGD = Row("ASPL, PGD step on four photos", "pgd")
IMAGES = Row("four images, 25 steps", "generate")


def rows() -> list[Row]:
    """The most important first."""
    main = [LORA, UNET, TEXT, WORD, DATA, VICTIM, PGD]
    made = [*main, *changed([LORA, UNET, TEXT, DATA], precision="fp32")]
    made += changed([LORA, UNET, TEXT, WORD, DATA, PGD], memory=("checkpoint",))
    made += changed([LORA, UNET, TEXT, DATA_FULL], memory=("offload",))
    made += changed([TEXT, DATA_FULL], memory=("checkpoint", "offload"))
    made += changed([LORA, UNET, WORD], what="script")
    made += changed([UNET], settings={"optimizer": "adamw-8bit"})
    made += [IMAGES, LORA_TEXT, LORA4, BATCH4, DATA_FULL]
    made += changed([LORA, UNET, TEXT, DATA], precision="fp16")
    made += changed([WORD, PGD, IMAGES], precision="fp32")
    made += changed([TEXT, DATA_FULL], precision="fp32", memory=("checkpoint", "offload"))
    return made


def changed(found: list[Row], **changes: Any) -> list[Row]:
    return [Row(**{**vars(row), **changes}) for row in found]


@dataclass(frozen=True)
class Measured:
    """row, and seconds of a step (median), how many were timed, images per step, GB at the peak; or an error in one line."""

    row: Row
    seconds: float = 0.0
    steps: int = 0
    images: int = 0
    gigabytes: float = 0.0
    error: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("sd_steps.json"), help="JSON to write")
    parser.add_argument(
        "--budget", type=float, default=180.0, help="seconds after which no row starts, imports included"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="hardly any weights")
    parser.add_argument("--smoke", action="store_true", help="a tiny base through the suite, compared with the CPU")
    parser.add_argument("--table", type=Path, help="print the table of a JSON file instead")
    parser.add_argument("--write", type=Path, help="with --table: Markdown file whose measured part is replaced")
    asked = parser.parse_args()
    if asked.table:
        table = markdown(json.loads(asked.table.read_text(encoding="utf-8")))
        print(table)
        if asked.write:
            text = asked.write.read_text(encoding="utf-8")
            before, after = text.split(BEGIN)[0], text.split(END)[1]
            asked.write.write_text(f"{before}{BEGIN}\n{table}{END}{after}", encoding="utf-8")
        return
    set_up_torch(asked.device)
    warnings.filterwarnings("ignore", message=".*determinis")  # on a GPU, of many operations
    if asked.smoke:
        from sd_smoke import smoke

        raise SystemExit(smoke(asked.device, asked.budget - (time.perf_counter() - STARTED)))
    with tempfile.TemporaryDirectory() as folder:
        report = measure_all(asked, Path(folder))
    print(f"\n{markdown(report)}\n{time.perf_counter() - STARTED:.0f} seconds in all")


def measure_all(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All rows that the budget has time for, as the JSON file has them."""
    random_features = allow_random_features()
    base = RandomBase(folder, asked.device, asked.tiny)
    base.load()
    ready(base.device)
    held = sum(w.numel() * w.element_size() for part in parts(base) for w in part.parameters()) / GB
    cuda = base.device.type == "cuda"
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
        "side": base.side,
        "tiny": asked.tiny,
        "base_gigabytes": held,
        "random_features": random_features,
        "rows": [],
        "left_out": [],
    }
    print(f"{report['device']}; base of {held:.2f} GB made in {time.perf_counter() - STARTED:.1f} s", flush=True)
    for row in rows():
        if time.perf_counter() - STARTED > asked.budget:
            report["left_out"].append(asdict(row))
            continue
        found = measured(base, row, asked.tiny)
        report["rows"].append(asdict(found))
        print(line(found), f"[{time.perf_counter() - STARTED:.0f} s]", flush=True)
        asked.out.write_text(json.dumps(report, indent=1), encoding="utf-8")
    asked.out.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return report


def measured(base: RandomBase, row: Row, tiny: bool) -> Measured:
    error = ""
    ready(base.device)
    try:
        with prepared(base, row), ExitStack() as stack:
            step, images = STEPS[row.what](base, row, stack, tiny)
            seconds: list[float] = []
            for i in range(WARM_UP + TIMED if row.what != "generate" else 3):
                begun = now(base.device)
                step()
                if i >= (WARM_UP if row.what != "generate" else 1):
                    seconds.append(now(base.device) - begun)
                if len(seconds) >= 3 and sum(seconds) > SECONDS:
                    break
            peak = torch.cuda.max_memory_allocated() / GB if base.device.type == "cuda" else 0.0
            return Measured(row, statistics.median(seconds), len(seconds), images, peak)
    except Exception as problem:  # one row of many: it is reported
        error = f"{type(problem).__name__}: {problem}".splitlines()[0][:200]
    return Measured(row, error=error)


@contextmanager
def prepared(base: RandomBase, row: Row) -> Iterator[None]:
    """The base as the row wants it, and as it was afterwards."""
    base.precision, base.memory = row.precision, frozenset(row.memory)
    base.save_memory(0)
    try:
        yield
    finally:
        base.precision, base.memory = "fp32", frozenset()
        base.save_memory(0)
        parts(base)  # whatever was put away comes back


def parts(base: RandomBase) -> tuple[nn.Module, ...]:
    return base.unet, base.vae, base.text_encoder


def ready(device: torch.device) -> None:
    """Nothing of earlier rows is held or counted."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


Step = tuple[Callable[[], object], int]
"""What one step does, and how many images go through the UNet in it."""


def bench_of(base: RandomBase, row: Row, tiny: bool) -> Workbench:
    return workbench(base, row.personalizer, row.settings, tiny, side=128)


def train(base: RandomBase, row: Row, stack: ExitStack, tiny: bool) -> Step:
    bench, pictures = bench_of(base, row, tiny), photos(PHOTOS, base.side, Seeds(3))
    latents, text, s = bench.encode(pictures), bench.text(pictures), bench.lora
    trainer = stack.enter_context(bench.trainer())
    return lambda: trainer.train(latents, text, 1), s.batch_size + (s.prior_batch if s.prior_weight else 0)


def data(base: RandomBase, row: Row, stack: ExitStack, tiny: bool) -> Step:
    """IDDM's step on the references, while the model is being trained."""
    bench, pictures = bench_of(base, row, tiny), photos(PHOTOS, base.side, Seeds(3))
    iddm = configure(DEFENSES.get("iddm"), {"data_steps": 1})
    decoupling = iddm.decoupling(iddm, pictures, bench)  # type: ignore[attr-defined]
    trainer = stack.enter_context(bench.trainer())
    trainer.train(decoupling.clean, decoupling.condition, 1)  # so that moments are there, as in a run
    delta = [decoupling.unchanged()]

    def step() -> None:
        delta[0] = decoupling.optimize(delta[0], 0, trainer)[0]

    return step, PHOTOS


def victim(base: RandomBase, row: Row, stack: ExitStack, tiny: bool) -> Step:
    """A training step of ASPL's victim while its copy is there; a third of a round's three."""
    aspl, bench, clean, models = aspl_parts(base, row, tiny)
    copy, training, generator = models[0].copy(), aspl.training(bench), Seeds(4).torch()
    return lambda: copy.train(clean, models[0].texts, 1, training, generator), 2


def pgd(base: RandomBase, row: Row, stack: ExitStack, tiny: bool) -> Step:
    aspl, _, clean, models = aspl_parts(base, row, tiny)
    both, generator = [models[0].copy(), models[0]], Seeds(4).torch()  # the victim itself is there too
    return lambda: aspl.attack(both[:1], clean, clean, [None], 1, 0.05, generator), PHOTOS


def aspl_parts(base: RandomBase, row: Row, tiny: bool) -> tuple[Any, Workbench, Tensor, list[Any]]:
    bench, pictures = bench_of(base, row, tiny), photos(PHOTOS, base.side, Seeds(3))
    aspl: Any = configure(DEFENSES.get("aspl"), {})
    return aspl, bench, to_signed(pictures, False, base.device), aspl.victims(pictures, bench)


def images(base: RandomBase, row: Row, stack: ExitStack, tiny: bool) -> Step:
    bench, sampling = bench_of(base, row, tiny), Sampling(steps=2 if tiny else 25, guidance=7.5)
    prompts = [base.recipe.prompts.instance]
    plain = PersonalizedModel(None, bench.lora)
    return lambda: generate(base, plain, prompts, PHOTOS, sampling, Seeds(5)), PHOTOS


def script(base: RandomBase, row: Row, stack: ExitStack, tiny: bool) -> Step:
    """The personalizer's weights and optimizer, in a loop as diffusers' example scripts have it."""
    bench, pictures = bench_of(base, row, tiny), photos(PHOTOS, base.side, Seeds(3))
    s, prior = bench.lora, bench.lora.prior_batch if bench.lora.prior_weight else 0
    trainer, pixels = stack.enter_context(bench.trainer()), bench.pixels(pictures)
    names = base.recipe.prompts
    ids = base.tokens([names.instance] * s.batch_size + [names.class_] * prior)

    def step() -> None:
        chosen = torch.randint(0, len(pixels), (len(ids),))
        with torch.no_grad():
            clean = base.encode(pixels[chosen])
        noise = torch.randn_like(clean)
        t = torch.randint(0, base.scheduler.config.num_train_timesteps, (len(ids),), device=base.device)
        with torch.set_grad_enabled(row.personalizer == "textual-inversion"), base.autocast():
            text = base.text_encoder(ids).last_hidden_state.float()
        with base.autocast():
            predicted = trainer.unet(base.scheduler.add_noise(clean, noise, t), t, text).sample.float()
        loss = F.mse_loss(predicted[: s.batch_size], noise[: s.batch_size])
        if prior:
            loss = loss + F.mse_loss(predicted[-prior:], noise[-prior:])
        loss.backward()
        nn.utils.clip_grad_norm_(trainer.trained(), 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()

    return step, len(ids)


STEPS: dict[str, Callable[[RandomBase, Row, ExitStack, bool], Step]] = {
    "train": train,
    "data": data,
    "victim": victim,
    "pgd": pgd,
    "generate": images,
    "script": script,
}


# ---- the table ----------------------------------------------------------------------------------------------------------


def line(found: Measured) -> str:
    row = found.row
    name = f"{row.title} | {how(asdict(row))} | {row.precision}"
    if found.error:
        return f"{name}: {found.error}"
    return f"{name}: {1 / found.seconds:.2f} steps/s, {found.images / found.seconds:.1f} images/s, {found.gigabytes:.1f} GB"


def how(row: dict[str, Any]) -> str:
    """A row's way to save memory, in words."""
    said = [*row["memory"], *(["8-bit AdamW"] if row["settings"].get("optimizer") == "adamw-8bit" else [])]
    return "as the example scripts" if row["what"] == "script" else " + ".join(said) or "usual"


def estimated(row: dict[str, Any]) -> str:
    """GB that `iddmbench.sweep.gpu_memory` expects of the row at 512 pixels, which a dry run shows too."""
    if row["what"] not in ("train", "data"):
        return ""
    plugin = PERSONALIZERS.get(row["personalizer"])()
    settings = plugin.settings(Recipe.model_validate({}), row["settings"], "settings")
    if row["what"] == "train":
        return f"{training_gb(row['personalizer'], settings, row['precision'], row['memory']):.1f}"
    held = weights_gb(settings, ()) + states_gb(row["personalizer"], settings, row["memory"])
    return f"{held + activations_gb(PHOTOS, row['precision'], row['memory'], decoded=True):.1f}"


def markdown(report: dict[str, Any]) -> str:
    """A table of the JSON file."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    text = f"{report['device']}; {versions}; {report['side']} pixels.\n\n"
    heads = ["step", "memory", "precision", "images per step", "steps/s", "images/s", "peak, GB", "estimated, GB"]
    text += f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|\n"
    for found in report["rows"]:
        row = found["row"]
        figures = f"{found['error']} | | | "
        estimate = estimated(row)
        if not found["error"]:
            seconds = found["seconds"]
            figures = (
                f"{found['images']} | {1 / seconds:.2f} | {found['images'] / seconds:.1f} | {found['gigabytes']:.1f}"
            )
        text += f"| {row['title']} | {how(row)} | {row['precision']} | {figures} | {estimate} |\n"
    if left_out := [f"{row['title']} ({how(row)}, {row['precision']})" for row in report["left_out"]]:
        text += f"\nNot measured, for lack of time: {'; '.join(left_out)}.\n"
    return text


if __name__ == "__main__":
    main()
