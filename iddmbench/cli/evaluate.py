"""`iddmbench evaluate`: images that exist already, from any generator."""

from pathlib import Path
from typing import Annotated

import typer

from iddmbench.errors import UserError, printable

LEFT_OUT = "left out: "


def evaluate(
    images: Annotated[Path, typer.Argument(help="Images by person: IMAGES/PERSON/*.png|jpg.", show_default=False)],
    gallery: Annotated[
        Path | None, typer.Option(help="Enrolment photos: GALLERY/PERSON/*.png|jpg; by default the dataset's.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Dataset whose public people set thresholds (orl); without --gallery its subjects are the people."
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Photos of the dataset, where it needs them.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="Option of the dataset, KEY=VALUE.")] = None,
    public: Annotated[Path | None, typer.Option(help="Public people, in place of the dataset's.")] = None,
    undefended: Annotated[Path | None, typer.Option(help="Images of the undefended model, by person.")] = None,
    generic: Annotated[Path | None, typer.Option(help="Images of the un-personalized model, by person.")] = None,
    references: Annotated[Path | None, typer.Option(help="Photos that personalized the model, by person.")] = None,
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
    base: Annotated[str | None, typer.Option(help="Base model of the images: micro, sd15, a folder ...")] = None,
    name: Annotated[str, typer.Option(help="What the images are called in tables.")] = "images",
    strength: Annotated[float, typer.Option(help="Strength of the defense behind them, for curves.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/evaluate-NAME-OF-IMAGES.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Cache of stage results; IDDMBENCH_CACHE moves it.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 takes the idle cores.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only results and what is wrong.")] = False,
) -> None:
    """Measure privacy and utility of your own images; nothing is trained."""
    from rich.console import Console

    from iddmbench import api
    from iddmbench.cli.progress import bar
    from iddmbench.cli.run import attacker_options, log_from_start, pairs
    from iddmbench.report.terminal import print_summary
    from iddmbench.run.config import dataset_options

    folder = out or Path("runs") / f"evaluate-{images.resolve().name}"
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
            name=name,
            strength=strength,
            seed=seed,
            out=folder,
            cache=cache,
            threads=threads,
            progress=progress,
        )
    for note in result.notes:
        if note.startswith(LEFT_OUT):  # counted in one line at the end
            continue
        typer.echo(printable(f"note: {note}"), err=True)
    print_summary(result.folder, Console(emoji=False))
    if len(result.failed):
        raise UserError(f"{len(result.failed)} failed cell(s); see {folder / 'failures.txt'}")
