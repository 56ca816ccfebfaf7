"""`iddmbench app`: a page in the browser for those without a shell."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer


def app(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 7860,
    cache: Annotated[
        Path | None, typer.Option(help="Keep results here, features of faces included; by default deleted at the end.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """A page in the browser: drop photos and pictures of a person, see who links them. Nothing leaves this machine."""
    from iddmbench.app.page import HOST, serve
    from iddmbench.run.torch_setup import set_up_torch

    set_up_torch("cpu", 0)
    url = f"http://{HOST}:{port}/"
    with TemporaryDirectory(prefix="iddmbench-app-") as folder:
        typer.echo(f"The page is at {url}; Ctrl-C ends it and deletes its files.")
        if open_browser:
            import threading

            threading.Timer(2.0, typer.launch, [url]).start()
        serve(Path(folder), port, cache)
