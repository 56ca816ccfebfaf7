"""`iddmbench train-base`: train the embedded base model from scratch."""

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
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Seed of weights, views and noise.")] = 0,
) -> None:
    """Train the embedded base model on ORL's public people and save it in Stable Diffusion's folder layout."""
    from iddmbench.micro.build import train_base as train

    for option, minutes in (("--vae-minutes", vae_minutes), ("--unet-minutes", unet_minutes)):
        if not (math.isfinite(minutes) and minutes > 0):
            raise UserError(f"{option} {minutes:g}: give a positive number of minutes")
    train(out, work, vae_minutes, unet_minutes, seed)
