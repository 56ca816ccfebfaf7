"""`iddmbench train-base`: train an embedded base model."""

from pathlib import Path
from typing import Annotated

import typer


def train_base(
    out: Annotated[Path, typer.Argument(help="Folder that the model is written to.")],
    work: Annotated[Path, typer.Option(help="Folder of checkpoints; rerun the command to resume.")] = Path(
        "train-base"
    ),
    vae_steps: Annotated[int, typer.Option(min=1, help="Training steps of the autoencoder.")] = 5000,
    unet_steps: Annotated[int, typer.Option(min=1, help="Training steps of the UNet and text encoder.")] = 8000,
    recipe: Annotated[str, typer.Option(help="Which base: micro (gray, ORL) or micro-rgb (colour).")] = "micro",
    faces: Annotated[
        Path | None, typer.Option(help="micro-rgb: working folder of `python -m iddmbench.synthetic.build --faces`.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Seed of weights, views and noise.")] = 0,
) -> None:
    """Train an embedded base model and save it in Stable Diffusion's folder layout."""
    from iddmbench.micro.build import train_base as train
    from iddmbench.micro.domain import get_domain
    from iddmbench.run.torch_setup import set_up_torch

    set_up_torch(device)
    train(out, work, vae_steps, unet_steps, seed, get_domain(recipe), faces, device)
