"""`iddmbench leaderboard add | build | serve`."""

from pathlib import Path
from typing import Annotated

import typer

from iddmbench.cli.errors import Commands
from iddmbench.cli.submit import BOARD, outcome, random_seed, slug
from iddmbench.errors import UserError

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Verified submissions: add one, build the site, preview it.")


@app.command("add")
def add(
    bundle: Annotated[Path, typer.Argument(help="Bundle made by `iddmbench submit`.")],
    board: Annotated[Path, typer.Option(help="Leaderboard folder.")] = BOARD,
    id_: Annotated[
        str | None, typer.Option("--id", help="Name of the entry's folder; by default from its name.")
    ] = None,
    attacker: Annotated[
        list[str] | None, typer.Option(help="Attacker to verify with; by default every plain one available here.")
    ] = None,
    retrain: Annotated[int, typer.Option(min=0, help="Number of random cells to retrain.")] = 0,
    seed: Annotated[
        int | None, typer.Option(help="Seed that picks those cells; random by default, and printed.")
    ] = None,
    strength: Annotated[list[float] | None, typer.Option(help="Strength that counts for the ranking.")] = None,
    replace: Annotated[bool, typer.Option(help="Replace the entry of that name.")] = False,
    despite_differences: Annotated[
        bool, typer.Option(help="Add it even if claims differ; differences are shown.")
    ] = False,
    root: Annotated[Path | None, typer.Option(help="Your copy of the dataset, if it is not embedded.")] = None,
    base: Annotated[str | None, typer.Option(help="Base model, if the bundle has its own.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Cache of embeddings.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 uses the idle cores.")] = 0,
) -> None:
    """Verify a bundle and, if accepted, add its recomputed figures to the leaderboard."""
    import tempfile

    from iddmbench.cli.progress import bar
    from iddmbench.leaderboard import board as boards
    from iddmbench.run.config import dataset_options
    from iddmbench.run.torch_setup import set_up_torch
    from iddmbench.store.cache import default_cache
    from iddmbench.submission.read import open_bundle
    from iddmbench.submission.verify import GRID, VerifyOptions, check_attackers, verify

    check_attackers(attacker or ())
    name = id_ or slug(open_bundle(bundle).meta.name)
    if slug(name) != name:
        raise UserError(f"--id {name}: use lower-case letters, digits and dashes, for example {slug(name)}")
    _check_board(board)
    set_up_torch(device, threads)
    drawn = seed if seed is not None else random_seed()
    options = VerifyOptions(
        cache=cache or default_cache(),
        attackers=tuple(attacker or ()),
        anchors=anchors if (anchors := board / boards.ANCHORS).is_dir() else None,
        retrain=retrain,
        seed=drawn,
        device=device,
        base=base,
        dataset_options=dataset_options(root),
        known={k: v for k, v in boards.known_images(board).items() if not (replace and k == name)},
        grid=tuple(strength or GRID),
    )
    with tempfile.TemporaryDirectory() as folder:
        with bar() as progress:
            found = verify(bundle, Path(folder) / "run", options, progress)
        if retrain:
            typer.echo(f"cells drawn with --seed {drawn}")
        for line in outcome(found):
            typer.echo(line)
        boards.add(board, found, name, replace, despite_differences)
    typer.echo(board / boards.ENTRIES / name)


def _check_board(board: Path) -> None:
    if board.is_file():
        raise UserError(f"--board {board} is a file: give the leaderboard's folder, the one that holds entries/")
    if not board.is_dir():
        raise UserError(f"--board {board}: no such folder; make it for a new leaderboard")


@app.command("build")
def build(
    board: Annotated[Path, typer.Option(help="Leaderboard folder.")] = BOARD,
    out: Annotated[Path, typer.Option(help="Folder of the site; existing files are replaced.")] = Path("site"),
    url: Annotated[str, typer.Option(help="URL of the site, for links in the feed.")] = "",
) -> None:
    """Write the static site: open index.html, or copy the folder to any web server."""
    from iddmbench.leaderboard.site import build_site

    if not url or url.startswith(("https://", "http://")):  # else `build_site` says what is wrong with it
        _check_board(board)
    pages = build_site(board, out, url)
    typer.echo(f"{pages} pages: {out / 'index.html'}")


@app.command("serve")
def serve(
    site: Annotated[Path, typer.Argument(help="Folder that `build` wrote.")] = Path("site"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = 8000,
) -> None:
    """Serve the built site on this machine only, until Ctrl-C."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    if not (site / "index.html").is_file():
        raise UserError(f"{site} holds no site: build it with `iddmbench leaderboard build --out {site}`")
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(SimpleHTTPRequestHandler, directory=str(site)))
    except OSError as error:
        raise UserError(f"port {port} can't be used ({error.strerror}): give another --port") from error
    typer.echo(f"http://127.0.0.1:{server.server_address[1]}/  (Ctrl-C ends it)")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
