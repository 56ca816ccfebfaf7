"""`iddmbench export`: a run's personalized model, as a LoRA that other programs load."""

from pathlib import Path
from typing import Annotated

import typer

from iddmbench.errors import UserError, did_you_mean


def export(
    run: Annotated[Path, typer.Argument(help="Finished run folder.")],
    subject: Annotated[str, typer.Option(help="Whose model.")],
    condition: Annotated[str, typer.Option(help="none, or a defense at a strength: iddm-1.00.")],
    seed: Annotated[int | None, typer.Option(help="Which repetition, when the run has several.")] = None,
    form: Annotated[
        str, typer.Option("--format", help="diffusers (load_lora_weights), or kohya (web UIs).")
    ] = "diffusers",
    out: Annotated[Path | None, typer.Option(help="New folder; by default SUBJECT-CONDITION.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Cache that holds the model.")] = None,
    eval_results: Annotated[
        str | None,
        typer.Option(
            help="Also write .eval_results/iddmbench.yaml for the model's page on Hugging Face, as results on this benchmark "
            "dataset: OWNER/NAME."
        ),
    ] = None,
) -> None:
    """Export a personalized model of a run as a LoRA file for diffusers and web UIs, with a model card."""
    from iddmbench.export.eval_results import FILE, check_benchmark
    from iddmbench.export.find import find_model
    from iddmbench.export.write import check_target, write_export
    from iddmbench.personalize.write_lora import FORMATS
    from iddmbench.results.run_folder import RunFolder
    from iddmbench.store.cache import default_cache

    if form not in FORMATS:
        raise UserError(f"--format {form}: {did_you_mean(form, FORMATS)}")
    if eval_results is not None:
        check_benchmark(eval_results)
    folder = out or Path(f"{subject}-{condition}")
    check_target(folder)
    found = find_model(RunFolder.open(run), subject, condition, seed, cache or default_cache())
    typer.echo(write_export(found, folder, form, eval_results))  # type: ignore[arg-type]
    typer.echo(folder / "README.md")
    if eval_results is not None:
        typer.echo(folder / FILE)
