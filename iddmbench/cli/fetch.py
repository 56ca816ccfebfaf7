"""`iddmbench fetch`: download the weights of attackers and judges."""

from typing import Annotated

import typer


def fetch(
    names: Annotated[
        list[str],
        typer.Argument(help="Attackers (`list attackers`) or judges: inception, clip, dino, lpips, anti-dreambooth."),
    ],
) -> None:
    """Download the weights of attackers and judges and verify their checksums; interrupted downloads are resumed.

    They go to the cache folder, or to IDDMBENCH_WEIGHTS. Without a network, put the file there yourself: `list
    attacker NAME` shows where.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from iddmbench.attacker import ATTACKERS
    from iddmbench.judges import JUDGES
    from iddmbench.weights import WeightFile
    from iddmbench.weights import fetch as fetch_file

    console = Console(emoji=False, soft_wrap=True, highlight=False)

    def download(name: str, file: WeightFile) -> None:
        console.print(f"{name}: {file.url}\nlicence: {file.licence}", markup=False)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(
            *columns, TimeRemainingColumn(), console=Console(emoji=False, stderr=True), transient=True
        ) as progress:
            task = progress.add_task(file.file, total=file.bytes or None)

            def tick(done: int, total: int | None, bar: Progress = progress, task: TaskID = task) -> None:
                bar.update(task, completed=done, total=total)

            path = fetch_file(file, tick)
        pinned = "" if file.sha256 else f" (checksum pinned in {file.pin.name}: no published one is known)"
        console.print(f"{path}{pinned}", markup=False)

    # A misspelt name stops before any download.
    systems = {name: ATTACKERS.get(name) for name in dict.fromkeys(names) if name not in JUDGES}
    for name in dict.fromkeys(names):
        if name in JUDGES:
            for file in JUDGES[name].files:
                download(name, file)
            problem = JUDGES[name]().problem()
        else:
            cls = systems[name]
            if cls.file is None:
                console.print(f"{name} needs no download: {cls.source}", markup=False)
                continue
            download(name, cls.file)
            problem = cls().available() or ""
        if problem:
            console.print(f"{name} can't run yet: {problem}", markup=False)
