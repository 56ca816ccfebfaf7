"""`iddmbench run`: train, defend, attack, and show the trade-off."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iddmbench.errors import UserError
from iddmbench.photos import DEFAULT_DATASET

if TYPE_CHECKING:
    from iddmbench.run.pipeline import Progress


def run(
    context: typer.Context,
    defense: Annotated[list[str], typer.Option(help="Defense to run; may be repeated.")] = ["iddm"],  # noqa: B006
    protocol: Annotated[
        str,
        typer.Option(help="Published protocol, whose settings apply where none are given (`list protocols`)."),
    ] = "iddmbench",
    target: Annotated[str, typer.Option(help="Whom images should be taken for (protocol amt-gan).")] = "",
    dataset: Annotated[
        str, typer.Option(help="synthetic and orl (embedded), folder (your photos), lfw, vggface2 or celebahq.")
    ] = DEFAULT_DATASET,
    root: Annotated[
        Path | None,
        typer.Option(help="Photos of a folder dataset: ROOT/PERSON/*.jpg|png, parquet files, or hf://OWNER/NAME."),
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="Option of the dataset, KEY=VALUE (`list dataset NAME`).")
    ] = None,
    base: Annotated[
        str,
        typer.Option(
            help="Base model: micro, micro-rgb, sd15, sd21, a folder, a .safetensors file, or a hub id (owner/name@revision); "
            "by default the dataset's: micro-rgb for synthetic, micro for the others.",
            show_default=False,
        ),
    ] = "",
    references_protected: Annotated[
        Path | None,
        typer.Option(help="Instead of a defense: already protected photos, DIR/PERSON/*.png."),
    ] = None,
    strength: Annotated[list[float], typer.Option(help="Strength in [0, 1]; may be repeated.")] = [0.5, 1.0],  # noqa: B006
    subjects: Annotated[
        str | None,
        typer.Option(
            help="Number of subjects (the first ones), or 'all'; by default 4, or all of fewer.", show_default=False
        ),
    ] = None,
    subject: Annotated[
        list[str] | None, typer.Option(help="A subject by name, instead of --subjects; may be repeated.")
    ] = None,
    attacker: Annotated[
        list[str] | None,
        typer.Option(
            help="Attacker; may be repeated. By default dlib, sface, faceres, lbph:part=inner, gabor and, from three subjects "
            "on, finetune:sface.",
            show_default=False,
        ),
    ] = None,
    attacker_set: Annotated[
        list[str] | None, typer.Option(help="Option of an attacker, NAME.KEY=VALUE (sface.detector=mtcnn).")
    ] = None,
    seed: Annotated[list[int], typer.Option(help="Seed; each adds a full repetition; may be repeated.")] = [0],  # noqa: B006
    images_per_prompt: Annotated[int, typer.Option(help="Generated images per evaluation prompt.")] = 4,
    prompt: Annotated[list[str] | None, typer.Option(help="Evaluation prompt; may be repeated.")] = None,
    preset: Annotated[
        str, typer.Option(help="Preset of the defenses' options: paper, micro; by default the base's.")
    ] = "",
    threat: Annotated[
        str, typer.Option(help="Who personalizes: authorized (the owner) or unauthorized (somebody else).")
    ] = "authorized",
    purify: Annotated[
        str,
        typer.Option(help="How the unauthorized trainer purifies the photos first: jpeg-75, blur-1, sdedit-0.2 ..."),
    ] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Option of the defense, KEY=VALUE.")] = None,
    personalizer: Annotated[
        str, typer.Option(help="How the base model is personalized (`list personalizers`).")
    ] = "lora",
    personalizer_set: Annotated[list[str] | None, typer.Option(help="Personalizer setting, KEY=VALUE.")] = None,
    lora: Annotated[list[str] | None, typer.Option(help="Setting of the lora personalizer, KEY=VALUE.")] = None,
    sampling: Annotated[list[str] | None, typer.Option(help="Sampler setting, KEY=VALUE.")] = None,
    anchors: Annotated[bool, typer.Option(help="Also run the undefended and the un-personalized model.")] = True,
    precision: Annotated[
        str, typer.Option(help="Precision of the base model's networks (autocast): fp32, bf16 or fp16.")
    ] = "fp32",
    memory: Annotated[
        list[str] | None,
        typer.Option(
            help="A way to need less GPU memory for more time: checkpoint, offload; may be repeated. No result changes."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Treat doubts about the photos as errors and train nothing.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/DATASET-DEFENSE-HASH.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Cache of stage results; IDDMBENCH_CACHE sets the default.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            envvar="IDDMBENCH_WORKERS",
            help="Processes that compute cells; 0 uses one on each idle core, and one in all with --threads or a GPU.",
        ),
    ] = 0,
    threads: Annotated[
        int, typer.Option(min=0, help="CPU threads of a worker; 0: one, or the idle cores with --workers 1.")
    ] = 0,
    track: Annotated[
        list[str] | None,
        typer.Option(help="Also log the finished run to tensorboard, wandb or trackio; may be repeated."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Hide progress; show only results and problems.")] = False,
) -> None:
    """Personalize models of real people with and without a defense, attack their outputs, and show the trade-off curve."""
    from rich.console import Console

    from iddmbench.cli.progress import bar
    from iddmbench.report.terminal import print_summary
    from iddmbench.report.write import write_outputs
    from iddmbench.run.config import dataset_options, default_folder, make_config
    from iddmbench.run.pipeline import run as run_pipeline
    from iddmbench.run.torch_setup import set_up_torch
    from iddmbench.store.cache import default_cache
    from iddmbench.sweep.beside import beside, processes
    from iddmbench.track import trackers
    from iddmbench.track.record import Record

    told = trackers(track)
    options = pairs(set_, "--set")
    if references_protected is not None:
        if given(context, "defense") or given(context, "strength"):
            raise UserError("--references-protected replaces --defense and --strength: leave these out")
        defense, strength = ["protected-photos"], [1.0]
        options["folder"] = str(references_protected.resolve())
    config = make_config(
        unless_fixed(
            context,
            {
                "protocol": protocol,
                "target": target,
                "dataset": dataset,
                "dataset_options": dataset_options(root, pairs(data, "--data")),
                **_people(subjects, subject),
                "base": base,
                "defenses": tuple(defense),
                "defense_options": options,
                "preset": preset,
                "threat": threat,
                "purify": purify,
                "strengths": tuple(strength),
                "anchors": anchors,
                **({"attackers": tuple(dict.fromkeys(attacker))} if attacker else {}),
                "attacker_options": attacker_options(attacker_set),
                "seeds": tuple(dict.fromkeys(seed)),
                "images_per_prompt": images_per_prompt,
                "prompts": tuple(prompt or ()),
                "precision": precision,
                "memory": tuple(dict.fromkeys(memory or ())),
                "personalizer": personalizer,
                "personalizer_options": pairs(personalizer_set, "--personalizer-set"),
                "lora": pairs(lora, "--lora"),
                "sampling": pairs(sampling, "--sampling"),
            },
        )
    )
    config.check()
    workers, threads = processes(workers, threads, device)
    set_up_torch(device, threads)
    folder, store = out or default_folder(config), cache or default_cache()
    lost: set[str] = set()
    with bar(lost, quiet) as progress:
        log_from_start(progress, folder / "log.txt")
        pool = beside(workers, threads, store, folder)
        failed = run_pipeline(config, folder, store, device, progress, strict, pool)
    print_summary(finished := write_outputs(folder), Console(emoji=False))
    for tracker in told:
        typer.echo(tracker.log(Record.of(finished)))
    if failed:
        raise UserError(f"{failed} failed cell(s); see {folder / 'failures.txt'}; rerun the command to retry only them")
    if lost:
        raise UserError(
            f"no figures of {', '.join(sorted(lost))} for some conditions; see {folder / 'failures.txt'}; "
            "rerun the command to retry only these"
        )


OPTION_OF = {
    "dataset_options": ("root", "data"),
    "defenses": ("defense", "references_protected"),
    "defense_options": ("set_", "references_protected"),
    "strengths": ("strength", "references_protected"),
    "attackers": ("attacker",),
    "attacker_options": ("attacker_set",),
    "seeds": ("seed",),
    "prompts": ("prompt",),
    "personalizer_options": ("personalizer_set",),
}
"""Settings of a run whose options on the command line have other names."""


def unless_fixed(context: typer.Context, settings: dict[str, Any]) -> dict[str, Any]:
    """Without the defaults of options that nobody wrote, where a published protocol may have others."""
    from iddmbench.protocols import OURS

    if settings["protocol"] == OURS:
        return settings
    return {
        key: value
        for key, value in settings.items()
        if any(given(context, option) for option in OPTION_OF.get(key, (key,)))
    }


def given(context: typer.Context, parameter: str) -> bool:
    """Whether an option was written on the command line, rather than left at its default."""
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


def _people(subjects: str | None, names: list[str] | None) -> dict[str, Any]:
    if subjects is not None and names:
        raise UserError("give either --subjects (how many) or --subject (who)")
    return {"subject": names} if names else {} if subjects is None else {"subjects": subjects}


def log_from_start(progress: "Progress", file: Path) -> None:
    """Open the log once the run starts: what is refused before that leaves no folder behind."""
    start = progress.start

    def logged(cells: int) -> None:
        logging.basicConfig(filename=file, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        damage = logging.StreamHandler()  # a damaged cache is the user's business too
        damage.setFormatter(logging.Formatter("warning: %(message)s"))
        logging.getLogger("iddmbench.store.cache").addHandler(damage)
        start(cells)

    progress.start = logged


def pairs(options: list[str] | None, flag: str) -> dict[str, Any]:
    """["rounds=6"] -> {"rounds": "6"}. Raises UserError for a part without "="."""
    parsed = {}
    for option in options or []:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise UserError(f"{flag} {option}: write it as {flag} KEY=VALUE")
        parsed[key.strip().replace("-", "_")] = value.strip()
    return parsed


def attacker_options(options: list[str] | None) -> dict[str, dict[str, str]]:
    """["sface.detector=mtcnn"] -> {"sface": {"detector": "mtcnn"}}. Raises UserError for a part without "." or "="."""
    parsed: dict[str, dict[str, str]] = {}
    for option in options or []:
        where, equals, value = option.partition("=")
        name, dot, key = where.rpartition(".")
        if not equals or not dot or not name.strip() or not key.strip():
            raise UserError(f"--attacker-set {option}: write it as --attacker-set NAME.KEY=VALUE")
        parsed.setdefault(name.strip(), {})[key.strip().replace("-", "_")] = value.strip()
    return parsed
