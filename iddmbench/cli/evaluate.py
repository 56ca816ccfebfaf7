"""`iddmbench evaluate`: images that exist already, from any generator, or models that somebody else trained."""

from pathlib import Path
from typing import Annotated

import typer

from iddmbench.errors import UserError, printable

LEFT_OUT = "left out: "


def evaluate(
    images: Annotated[
        Path | None, typer.Argument(help="Images by person: IMAGES/PERSON/*.png|jpg.", show_default=False)
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(
            help="Instead of IMAGES: a LoRA or DreamBooth folder for one --subject, or FOLDER/PERSON.safetensors."
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Base model of the images or adapters: micro, sd15, a folder ...")
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(help="Person the adapter is for; of several, those to evaluate; may be repeated."),
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option(help="Enrolment photos: GALLERY/PERSON/*.png|jpg; by default the dataset's.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Dataset whose public people set thresholds (synthetic, orl); without --gallery its subjects are enrolled."
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Photos of the dataset, if it needs them.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="Option of the dataset, KEY=VALUE.")] = None,
    public: Annotated[Path | None, typer.Option(help="Photos of public people, instead of the dataset's.")] = None,
    undefended: Annotated[Path | None, typer.Option(help="Images of the undefended model, by person.")] = None,
    generic: Annotated[Path | None, typer.Option(help="Images of the un-personalized model, by person.")] = None,
    references: Annotated[
        Path | None, typer.Option(help="Photos that the model was personalized on, by person.")
    ] = None,
    attacker: Annotated[list[str], typer.Option(help="Attacker; may be repeated.")] = ["dlib", "sface"],  # noqa: B006
    white_box: Annotated[
        list[str] | None, typer.Option(help="Attacker that the defense optimized against; may be repeated.")
    ] = None,
    attacker_set: Annotated[
        list[str] | None, typer.Option(help="Option of an attacker, NAME.KEY=VALUE (sface.detector=mtcnn).")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Prompt of the images, in their order; may be repeated.")
    ] = None,
    undefended_adapter: Annotated[
        Path | None, typer.Option(help="Adapters of the undefended model, instead of its images.")
    ] = None,
    images_per_prompt: Annotated[int, typer.Option(help="Images to generate per prompt from an adapter.")] = 4,
    sampling: Annotated[list[str] | None, typer.Option(help="Sampler setting for adapters, KEY=VALUE.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of what is evaluated, for tables; by default images or adapter.")
    ] = None,
    strength: Annotated[float, typer.Option(help="Strength of the defense that was applied, for curves.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; by default runs/evaluate-NAME-OF-IMAGES-OR-ADAPTER.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Cache of stage results; IDDMBENCH_CACHE sets the default.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Device that generates images from adapters: cpu, cuda, cuda:1 ...")
    ] = "cpu",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 uses the idle cores.")] = 0,
    utility: Annotated[
        bool,
        typer.Option("--utility/--no-utility", help="Measure utility too; privacy alone takes a fraction of the time."),
    ] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="Hide progress; show only results and problems.")] = False,
) -> None:
    """Measure privacy and utility of your own images, or of a LoRA or DreamBooth model; nothing is trained."""
    from rich.console import Console

    from iddmbench import api
    from iddmbench.cli.progress import bar
    from iddmbench.cli.run import attacker_options, log_from_start, pairs
    from iddmbench.report.terminal import print_summary
    from iddmbench.result import notes_of
    from iddmbench.run.config import dataset_options

    source = images or adapter
    if source is None:
        raise UserError("give IMAGES, or an --adapter to generate them")
    folder = out or Path("runs") / f"evaluate-{source.resolve().name.removesuffix('.safetensors')}"
    with bar(quiet=quiet) as progress:
        log_from_start(progress, folder / "log.txt")
        result = api.evaluate(
            images,
            gallery,
            dataset=dataset,
            dataset_options=dataset_options(root, pairs(data, "--data")),
            public=public,
            attackers=attacker,
            attacker_options=attacker_options(attacker_set),
            references=references,
            baseline=undefended,
            generic=generic,
            white_box=white_box or (),
            prompts=prompt,
            base=base,
            adapter=adapter,
            baseline_adapter=undefended_adapter,
            subject=subject or (),
            images_per_prompt=images_per_prompt,
            sampling=pairs(sampling, "--sampling"),
            name=name,
            strength=strength,
            seed=seed,
            out=folder,
            cache=cache,
            device=device,
            utility=utility,
            threads=threads,
            progress=progress,
        )
    for note in notes_of(result.folder):  # the bar has told what is doubtful about the photos
        if note.startswith(LEFT_OUT):  # counted in one line at the end
            continue
        typer.echo(printable(f"note: {note}"), err=True)
    print_summary(result.folder, Console(emoji=False))
    if len(result.failed):
        raise UserError(f"{len(result.failed)} failed cell(s); see {folder / 'failures.txt'}")
