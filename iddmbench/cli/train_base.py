"""`iddmbench train-base`: train an embedded base model."""

import math
from pathlib import Path
from typing import Annotated

import typer

from iddmbench.errors import UserError


def train_base(
    out: Annotated[Path, typer.Argument(help="Folder that the model is written to.")],
    work: Annotated[Path, typer.Option(help="Folder of checkpoints; the same command resumes from it.")] = Path(
        "train-base"
    ),
    vae_minutes: Annotated[float, typer.Option(help="Training time of the autoencoder.")] = 34,
    unet_minutes: Annotated[float, typer.Option(help="Training time of the UNet and text encoder.")] = 60,
    recipe: Annotated[str, typer.Option(help="Which base: micro (gray, ORL) or micro-rgb (colour).")] = "micro",
    faces: Annotated[
        Path | None, typer.Option(help="micro-rgb: working folder of `python -m iddmbench.synthetic.build --faces`.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Seed of weights, views and noise.")] = 0,
) -> None:
    """Train an embedded base model and save it in Stable Diffusion's folder layout."""
    from iddmbench.micro.build import train_base as train
    from iddmbench.micro.domain import get_domain

    for option, minutes in (("--vae-minutes", vae_minutes), ("--unet-minutes", unet_minutes)):
        if not (math.isfinite(minutes) and minutes > 0):
            raise UserError(f"{option} {minutes:g}: give a positive number of minutes")
    train(out, work, vae_minutes, unet_minutes, seed, get_domain(recipe), faces)
