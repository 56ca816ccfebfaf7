"""The functions of `import iddmbench`: what the command line does, from Python."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd

from iddmbench.adaptive import parse, with_options
from iddmbench.attacker import ATTACKERS, Attacker
from iddmbench.conformance import Outcome
from iddmbench.defense import DEFENSES
from iddmbench.errors import UserError, did_you_mean
from iddmbench.guards import errors_of
from iddmbench.paths import user_path
from iddmbench.personalize.read_model import Adapters
from iddmbench.photos import DEFAULT_DATASET
from iddmbench.photos.dataset import DATASETS, make_dataset
from iddmbench.photos.given import Given
from iddmbench.plugins import Kind, kind_of, kinds_with, taken
from iddmbench.result import Result, result_of
from iddmbench.results import paired
from iddmbench.results.comparable import check_comparable
from iddmbench.results.differences import differences as paired_differences
from iddmbench.results.differences import table as paired_table
from iddmbench.results.per_subject import PRIVACY, UTILITY
from iddmbench.results.run_folder import WORST_CASE, WORST_CASES
from iddmbench.results.summary import Summary
from iddmbench.types import FaceData

if TYPE_CHECKING:
    from iddmbench.run.pipeline import Progress

OneAttacker = str | Attacker | type[Attacker]

__all__ = [
    "Result",
    "check",
    "compare",
    "differences",
    "evaluate",
    "list_attackers",
    "list_datasets",
    "list_defenses",
    "list_plugins",
    "load_dataset",
    "open_run",
    "register",
    "run",
]


def evaluate(
    images: Given | None = None,
    gallery: Given | None = None,
    *,
    dataset: str | None = None,
    dataset_options: Mapping[str, Any] | None = None,
    public: Given | None = None,
    attackers: OneAttacker | Sequence[OneAttacker] = ("dlib", "sface"),
    attacker_options: Mapping[str, Mapping[str, Any]] | None = None,
    references: Given | None = None,
    baseline: Given | None = None,
    generic: Given | None = None,
    white_box: str | Sequence[str] = (),
    prompts: Sequence[str] | None = None,
    base: str | None = None,
    adapter: Adapters | None = None,
    baseline_adapter: Adapters | None = None,
    subject: str | Sequence[str] = (),
    images_per_prompt: int = 4,
    sampling: Mapping[str, Any] | None = None,
    name: str | None = None,
    strength: float = 1.0,
    seed: int = 0,
    out: Path | str | None = None,
    cache: Path | str | None = None,
    device: str = "cpu",
    threads: int = 0,
    utility: bool = True,
    progress: "Progress | None" = None,
) -> Result:
    """Measure privacy and utility of existing images, from any generator, or of models that somebody else trained.

    Nothing is trained. The images or exported models of a finished run reproduce that run's figures if data, base, prompts,
    name, strength and seed are the same.

    Args:
        images: {person: images} or a folder IMAGES/PERSON/*.png; an image is a uint8 array [H, W, 3], a path or a PIL image, of
            at least 16 pixels a side.
        gallery: enrolment photos, in the same form; by default those of `dataset`. Everybody in it is enrolled.
        dataset: name of a dataset, whose public people are distractors and set the thresholds; without a gallery, its
            subjects are the people.
        dataset_options: the dataset's options, as `load_dataset` takes them.
        public: photos of public people, instead of the dataset's: at least three, none of them in the gallery.
            Without any, figures that need a threshold are not measured.
        attackers: names, or instances or subclasses of Attacker, which need not be registered. Adaptive attackers are given
            by name and may wrap these ("fuse:mine+sface").
        attacker_options: {"sface": {"detector": "mtcnn"}}; they become part of the attacker's name ("sface:mtcnn").
        references: photos the model was personalized on. Without them, closeness, FID and KID are not measured.
        baseline: images of the undefended model; generic: of the un-personalized one. Both are needed for the utility index.
        white_box: attackers that the defense behind the images optimized against.
        prompts: the images' prompts, in order, if everybody has the same number of images for each; used to measure adherence.
        base: name or folder of the model behind the images; sets how references are cropped. Its weights are read only for
            an adapter.
        adapter: instead of images, a model that generates them on `base` with the protocol's prompts and noise: a LoRA file or
            folder (diffusers, peft, Kohya) or a DreamBooth folder, of one person (`subject`); FOLDER/PERSON.safetensors or
            FOLDER/PERSON/...; or {person: path}. The un-personalized model's images are generated too, unless given.
        baseline_adapter: the undefended model, in the same form, instead of its images.
        subject: the person the adapter is for; of several, those to evaluate.
        images_per_prompt, sampling: for an adapter; sampling defaults to the base's recipe.
        name, strength: label of what is evaluated in tables: condition "images-1.00" or "adapter-1.00".
        seed: seed of all random draws.
        out: run folder, with report and figures; by default a temporary one, deleted with the result.
        cache: folder of stage results; IDDMBENCH_CACHE sets the default.
        utility: False measures privacy alone, in a fraction of the time: SER-FIQ and the other image metrics take most of it.
        progress: progress hooks (`iddmbench.run.pipeline.Progress`).

    Raises UserError, in one line, for unusable input. Everything merely worth knowing is in the result's `notes`.
    """
    from iddmbench.report.write import write_outputs
    from iddmbench.run.evaluate import Evaluation, Request
    from iddmbench.run.torch_setup import set_up_torch
    from iddmbench.store.cache import default_cache

    set_up_torch(device, threads)
    names, own = _attackers(attackers)
    request = Request(
        images,
        gallery,
        dataset,
        dataset_options,
        public,
        with_options(names, attacker_options or {}),
        references,
        baseline,
        generic,
        tuple(_several(white_box)),
        tuple(prompts or ()),
        base,
        name or ("images" if adapter is None else "adapter"),
        strength,
        seed,
        adapter,
        baseline_adapter,
        tuple(dict.fromkeys(_several(subject))),
        images_per_prompt,
        sampling,
        device,
        utility,
        own,
    )
    evaluation = Evaluation.of(request, user_path(cache) if cache else default_cache())
    if out is not None:
        folder = user_path(out)
        evaluation.measure(folder, progress)
        return Result(write_outputs(folder))
    kept = TemporaryDirectory(prefix="iddmbench-")
    evaluation.measure(Path(kept.name), progress)
    return result_of(kept.name, kept=kept)


def run(
    defense: str | Sequence[str] | None = None,
    *,
    strengths: Sequence[float] | None = None,
    subjects: int | str | Sequence[str] | None = None,
    attackers: str | Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    out: Path | str | None = None,
    cache: Path | str | None = None,
    device: str = "cpu",
    threads: int = 0,
    workers: int = 1,
    strict: bool = False,
    **settings: Any,
) -> Result:
    """Personalize models with and without a defense and attack their outputs: `iddmbench run`, with its defaults.

    Args:
        defense: "iddm" by default, at strengths 0.5 and 1. attackers: by default those of `iddmbench run`. seeds: 0 by default.
        subjects: a number (4 by default), "all", or names. `settings` name the dataset, `synthetic` by default.
        out: run folder; by default runs/DATASET-DEFENSE-HASH, as on the command line. The same call resumes.
        workers, threads: processes that compute cells, and the CPU threads of each. With more than one worker, a script needs
            `if __name__ == "__main__":` around what it does, as for any use of multiprocessing.
        strict: treat doubts about the photos as errors and train nothing.
        settings: any other setting of `iddmbench.run.config.RunConfig` (dataset, base, defense_options, prompts, lora ...), and
            attacker_options as in `evaluate`. `protocol`: a published protocol (`iddmbench list protocols`); its settings apply
            where none are given.

    Raises UserError before anything is computed if a setting is wrong. Failed cells are in the result's `failed`.
    """
    from iddmbench.report.write import write_outputs
    from iddmbench.run.config import default_folder, make_config
    from iddmbench.run.pipeline import run as run_pipeline
    from iddmbench.run.torch_setup import set_up_torch
    from iddmbench.store.cache import default_cache
    from iddmbench.sweep.beside import beside, processes

    options = {
        "defenses": None if defense is None else tuple(_several(defense)),
        "strengths": None if strengths is None else tuple(strengths),
        "subjects": subjects,
        "attackers": None if attackers is None else tuple(dict.fromkeys(_several(attackers))),
        "seeds": None if seeds is None else tuple(dict.fromkeys(seeds)),
    }
    config = make_config({key: value for key, value in options.items() if value is not None} | settings)
    config.check()
    workers, threads = processes(workers, threads, device)
    set_up_torch(device, threads)
    folder = user_path(out) if out else default_folder(config)
    store = user_path(cache) if cache else default_cache()
    run_pipeline(config, folder, store, device, strict=strict, pool=beside(workers, threads, store, folder))
    return Result(write_outputs(folder))


def open_run(path: Path | str) -> Result:
    """Open a finished run folder. Raises UserError if the folder is not a run, or the run is not finished."""
    return result_of(path)


def compare(a: Result, b: Result, metric: str = "rank1_hit", attacker: str = WORST_CASE) -> paired.Comparison:
    """Paired difference of two conditions, a - b, over the subjects in both: `.difference` has value, interval and p.

    Args:
        a, b: results of one run (`result.at("none")`) or of two runs with the same protocol.
        metric: a per-subject figure: "rank1_hit", the share of images with a face that are linked at rank 1, "r1u",
            "psr@1e-2", "ism", "fta" ...; or a utility figure such as "face_detection_rate". `differences` gives all of them.
        attacker: a name, or a worst case: the strongest in each condition. Ignored for utility.

    Raises UserError for a metric of a whole condition (FID, EER, the utility index ...), one that was not measured, different
    protocols, no subject in common, or none who has an image with a face in both (where the figure is of such images).
    """
    if metric not in (*PRIVACY, *UTILITY):
        raise UserError(f"compare: '{metric}' is not compared in pairs: {did_you_mean(metric, [*PRIVACY, *UTILITY])}")
    if a.folder.path != b.folder.path:
        check_comparable([a.folder, b.folder])
    judge = attacker if metric in PRIVACY else ""
    sides = _side(a), _side(b)
    for one, (summary, condition) in zip((a, b), sides, strict=True):
        if judge:
            _ = one[judge]  # names those that there are
        if judge not in WORST_CASES and summary.get(condition, metric, judge) is None:
            raise UserError(f"compare: {metric} was not measured for {condition.label} of {one.folder.name}")
    found = paired.compare(*sides, judge, metric)
    if found is None:
        subjects = [set(condition.rows(summary.run.images)["subject"]) for summary, condition in sides]
        if subjects[0] & subjects[1]:
            raise UserError(f"compare: {metric} is of images with a face, and no subject has such images in both")
        raise UserError("compare: the two have no subject in common")
    return found


def differences(a: Result, b: Result) -> pd.DataFrame:
    """Paired differences of every per-subject figure, a - b: `iddmbench compare` as a data frame.

    One row per figure (R1-U, PSR, ISM, FTA) and attacker in both results, including the worst case, then one per
    utility figure. The columns are `metric`, `title`, `attacker`, `by_first` and `by_second` (who attains a worst case),
    `first` and `second` (means over the subjects in both), `difference` with `low` and `high` (95 %), `p`, `p_holm` (Holm, over
    all rows) and `subjects`.

    Raises UserError as `compare` does.
    """
    return paired_table(paired_differences(_side(a), _side(b)))


def _side(result: Result) -> paired.Side:
    return Summary(result.folder), result.condition


def check(plugin: str | type[Any], kind: str | None = None, **options: Any) -> list[Outcome]:
    """Run the conformance checks on a plugin: `iddmbench check`. Each outcome has `.name`, `.state` and `.message`.

    Args:
        plugin: a name, or the class.
        kind: "defense", "attacker", "adaptive", "purifier", "personalizer" or "dataset"; needed if several kinds
            have the name ("blur").
        options: the plugin's options, for example to make it faster or to say where its files are.

    Raises UserError if it is unknown or can't run here.
    """
    from iddmbench.conformance.plugin import outcomes

    return list(outcomes(_kind(plugin, kind), plugin, options))


def _kind(plugin: str | type[Any], wanted: str | None) -> Kind:
    if wanted is not None:
        return _kind_named(wanted)
    if isinstance(plugin, type):
        kind = kind_of(plugin)
        if kind is None:
            raise UserError(f"check: {plugin.__name__} is not a plugin class: derive from {_bases()}")
        return kind
    kinds = kinds_with(plugin)
    if len(kinds) > 1:
        raise UserError(f"check: '{plugin}' is a {' and a '.join(kinds)}: choose one, for example kind='{kinds[0]}'")
    if not kinds:
        known = sorted({name for kind in Kind for name in kind.registry.names()})
        raise UserError(f"check: there is no plugin '{plugin}': {did_you_mean(plugin, known)}")
    return kinds[0]


def _kind_named(wanted: str) -> Kind:
    if wanted not in list(Kind):
        raise UserError(f"there is no kind '{wanted}' of plugins: {did_you_mean(wanted, list(Kind))}")
    return Kind(wanted)


def _bases() -> str:
    return ", ".join(kind.registry.base.__name__ for kind in Kind)


def register(cls: type[Any]) -> type[Any]:
    """Register a plugin under its `name`, for this process; also works as a decorator. Its base class sets its kind:
    Defense, Attacker, Adaptive, Purifier, Personalizer or FaceDataset.

    Raises UserError for any other class, or if the name is taken.
    """
    kind = kind_of(cls)
    if kind is None:
        raise UserError(f"register: {cls!r} is not a plugin class: derive from {_bases()}")
    name = getattr(cls, "name", None)
    if not isinstance(name, str):
        raise UserError(f"register: {cls.__name__} must set its class variable `name` to a text")
    if (other := taken(kind, name)) not in (None, kind):
        raise UserError(f"register: '{name}' is already an {other}: choose another name for {cls.__name__}")
    try:
        return kind.registry.register(name)(cls)
    except (TypeError, ValueError) as error:
        raise UserError(f"register: {error}") from error


def load_dataset(name: str = DEFAULT_DATASET, **options: Any) -> FaceData:
    """Load a dataset's people and photos, by default those of `iddmbench run`; its options: `iddmbench list dataset NAME`.

    Raises UserError as it does.
    """
    return make_dataset(DATASETS.get(name), options).load()


def list_attackers() -> list[str]:
    """Names of all attackers, including those from other installed packages."""
    return ATTACKERS.names()


def list_defenses() -> list[str]:
    return DEFENSES.names()


def list_datasets() -> list[str]:
    return DATASETS.names()


def list_plugins(kind: str) -> list[str]:
    """Names of the plugins of a kind: "defense", "attacker", "adaptive", "purifier", "personalizer" or "dataset"."""
    return _kind_named(kind).registry.names()


def _attackers(given: OneAttacker | Sequence[OneAttacker]) -> tuple[tuple[str, ...], dict[str, Attacker]]:
    """Names, and the attackers that were given as objects or classes. Raises UserError for what is neither."""
    several = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    names: list[str] = []
    own: dict[str, Attacker] = {}
    for one in several:
        if isinstance(one, str):
            names.append(one)
            continue
        cls = one if isinstance(one, type) else type(one)
        if not issubclass(cls, Attacker):
            raise UserError(f"attackers: give names, instances or subclasses of Attacker, not {cls.__name__}")
        for text in ATTACKERS.texts:
            if not isinstance(getattr(one, text, None), str):
                raise UserError(f"attackers: {cls.__name__} must set `{text}` to a text")
        with errors_of(f"attacker '{one.name}'"):
            attacker = one() if isinstance(one, type) else one
        if not attacker.name.isprintable() or not attacker.name.strip() or parse(attacker.name) is not None:
            raise UserError(f"attackers: {attacker.name!r} is not a valid attacker name: choose a plain one")
        names.append(attacker.name)
        own[attacker.name] = attacker
    for name in names:
        if name in own and names.count(name) > 1:
            raise UserError(f"attackers: two are named '{name}': rename one")
    return tuple(dict.fromkeys(names)), own


def _several(names: str | Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names
