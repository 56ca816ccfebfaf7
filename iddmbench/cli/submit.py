"""`iddmbench submit` and `iddmbench verify`: from a run to a bundle, and from a bundle to figures one can trust."""

from pathlib import Path
from typing import Annotated

import typer

from iddmbench.errors import UserError

BOARD = Path("leaderboard")


def submit(
    run: Annotated[Path, typer.Argument(help="Finished run folder.")],
    name: Annotated[str, typer.Option(help="Name on the leaderboard.")],
    defense: Annotated[str | None, typer.Option(help="Defense to submit; 'none' for the anchors alone.")] = None,
    paper: Annotated[str | None, typer.Option(help="Web address of the paper.")] = None,
    code: Annotated[str | None, typer.Option(help="Web address of the code.")] = None,
    author: Annotated[list[str] | None, typer.Option(help="Author; may be repeated.")] = None,
    description: Annotated[str, typer.Option(help="Description, in a few sentences.")] = "",
    white_box: Annotated[
        list[str] | None, typer.Option(help="Attacker that the defense optimized against; may be repeated.")
    ] = None,
    adapters: Annotated[bool, typer.Option(help="Include the trained adapters.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Cache that holds the adapters.")] = None,
    out: Annotated[Path | None, typer.Option(help="Bundle to write; by default NAME.zip.")] = None,
    push: Annotated[
        str | None, typer.Option(help="Also push bundle, card and tables to this dataset of Hugging Face: OWNER/NAME.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --push: bundle, and show what would be pushed.")
    ] = False,
) -> None:
    """Bundle a run for others to verify: images, settings, hashes; no photos from the dataset."""
    from iddmbench.results.run_folder import RunFolder
    from iddmbench.store.cache import default_cache
    from iddmbench.submission.bundle import About, write_bundle
    from iddmbench.submission.push import Push, check_push, refuse_dry_run_alone
    from iddmbench.submission.push import push as send

    refuse_dry_run_alone(push, dry_run)
    if push is not None:
        check_push(push, dry_run)
    target = out or Path(f"{slug(name)}.zip")
    if target.suffix != ".zip" or target.is_dir():
        raise UserError(f"--out {target}: give a file that ends in .zip")
    about = About(name, tuple(author or ()), paper, code, description, tuple(white_box or ()))
    kept = (cache or default_cache()) if adapters else None
    meta = write_bundle(RunFolder.open(run), defense, about, target, kept)
    failed = sum(cell.status != "ok" for cell in meta.cells)
    size = target.stat().st_size / 2**20
    typer.echo(f"{target}: {len(meta.cells)} cells, {len(meta.files)} files, {size:.1f} MiB")
    if failed:
        typer.echo(f"warning: {failed} cells failed: a submission with failed cells is listed, not ranked", err=True)
    if push is not None:
        what = Push.of(meta, target, push)
        if dry_run:
            typer.echo("\n".join(["would push to the " + what.lines()[0], *what.lines()[1:]]))
        else:
            typer.echo(send(what))


def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle made by `iddmbench submit`.")],
    attacker: Annotated[
        list[str] | None, typer.Option(help="Attacker to verify with; by default every plain one available here.")
    ] = None,
    anchors: Annotated[
        Path | None, typer.Option(help="Folder of trusted anchor bundles; by default leaderboard/anchors.")
    ] = None,
    board: Annotated[
        Path | None, typer.Option(help="Leaderboard to check for copied images; by default leaderboard.")
    ] = None,
    retrain: Annotated[int, typer.Option(min=0, help="Number of random cells to retrain.")] = 0,
    seed: Annotated[
        int | None, typer.Option(help="Seed that picks those cells; random by default, and printed.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Your copy of the dataset, if it is not embedded.")] = None,
    base: Annotated[str | None, typer.Option(help="Base model, if the bundle has its own.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the recomputed run; by default runs/verified-NAME.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Cache of embeddings.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    threads: Annotated[
        int,
        typer.Option(help="CPU threads; 0 uses the idle cores. Retraining uses the number in the bundle."),
    ] = 0,
) -> None:
    """Recompute every figure of a bundle from its images and report what differs. Exits with 1 if it can't be accepted."""
    from iddmbench.cli.progress import bar
    from iddmbench.leaderboard.board import known_images
    from iddmbench.report.write import write_outputs
    from iddmbench.run.config import dataset_options
    from iddmbench.run.torch_setup import set_up_torch
    from iddmbench.store.cache import default_cache
    from iddmbench.submission.verify import VerifyOptions, check_attackers, write_verification
    from iddmbench.submission.verify import verify as check

    check_attackers(attacker or ())
    if not bundle.is_file():
        raise UserError(f"no such bundle: {bundle}")
    board, anchors = usual(board, BOARD, "--board"), usual(anchors, BOARD / "anchors", "--anchors")
    set_up_torch(device, threads)
    drawn = seed if seed is not None else random_seed()
    options = VerifyOptions(
        cache=cache or default_cache(),
        attackers=tuple(attacker or ()),
        anchors=anchors,
        retrain=retrain,
        seed=drawn,
        device=device,
        base=base,
        dataset_options=dataset_options(root),
        known=known_images(board) if board else {},
    )
    folder = out or Path("runs") / f"verified-{bundle.stem}"
    with bar() as progress:
        found = check(bundle, folder, options, progress)
    write_outputs(folder)
    write_verification(found, folder / "verification.json")
    if retrain:
        typer.echo(f"cells drawn with --seed {drawn}")
    for line in outcome(found):
        typer.echo(line)
    typer.echo(folder / "report.html")
    if not found.accepted:
        raise typer.Exit(1)


def usual(given: Path | None, place: Path, option: str) -> Path | None:
    """The folder that was named, which must exist, or the usual one; None, with a warning, where there is none.

    Raises UserError for a mistyped one: its checks would be left out without a word.
    """
    if given is not None and not given.is_dir():
        raise UserError(f"{option} {given}: no such folder")
    if given is None and not place.is_dir():
        typer.echo(f"warning: no folder {place} here, so nothing is compared with it: name one with {option}", err=True)
        return None
    return given or place


def outcome(found) -> list[str]:
    """The verdict, then everything that was found, a line each."""
    lines = [f"{'accepted' if found.accepted else 'NOT accepted'}: {found.bundle.meta.name}"]
    lines += [f"refused: {text}" for text in found.refused]
    lines += [f"differs: {text}" for text in found.differences]
    lines += [f"{'agrees' if r.agrees else 'differs'}: {r}" for r in found.retrained]
    lines += [f"note: {text}" for text in found.notes]
    if found.unranked:
        lines.append(f"not ranked: {found.unranked}")
    for one in found.standings:
        if one.judge == "worst-case":
            lines.append(f"hypervolume, {one.metric} against the strongest attacker: {one.hypervolume}")
    return lines


def slug(name: str) -> str:
    """ "IDDM (surrogate SFace)" -> "iddm-surrogate-sface"."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())
    return "-".join(part for part in kept.split("-") if part)[:60] or "submission"


def random_seed() -> int:
    import secrets

    return secrets.randbelow(2**31)
