"""`iddmbench base`: where a base model lies."""

from typing import Annotated

import typer

from iddmbench.cli.errors import Commands

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Base models, for use outside the suite.")


@app.command("path")
def path(
    name: Annotated[
        str, typer.Argument(help="micro, sd15, sd21, a folder, a .safetensors file, or a hub id.")
    ] = "micro",
) -> None:
    """Print the folder of a base model, for diffusers' `from_pretrained`."""
    from iddmbench.models.base import base_folder

    typer.echo(base_folder(name))


@app.callback()
def _group() -> None:
    """A group, though it has one command."""
