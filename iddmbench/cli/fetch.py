"""`iddmbench fetch`: download the weights of attackers."""

from typing import Annotated

import typer


def fetch(
    names: Annotated[list[str], typer.Argument(help="Attackers whose weights to download (`list attackers`).")],
) -> None:
    """Download the weights of attackers and verify their checksums; interrupted downloads are resumed.

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
    from iddmbench.weights import fetch as fetch_file

    console = Console(emoji=False, soft_wrap=True, highlight=False)
    chosen = [(name, ATTACKERS.get(name)) for name in dict.fromkeys(names)]  # a misspelt name stops before any download
    for name, cls in chosen:
        if cls.file is None:
            console.print(f"{name} needs no download: {cls.source}", markup=False)
            continue
        console.print(f"{name}: {cls.file.url}\nlicence: {cls.file.licence}", markup=False)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(
            *columns, TimeRemainingColumn(), console=Console(emoji=False, stderr=True), transient=True
        ) as progress:
            task = progress.add_task(cls.file.file, total=cls.file.bytes or None)

            def tick(done: int, total: int | None, bar: Progress = progress, task: TaskID = task) -> None:
                bar.update(task, completed=done, total=total)

            path = fetch_file(cls.file, tick)
        pinned = "" if cls.file.sha256 else f" (checksum pinned in {cls.file.pin.name}: no published one is known)"
        console.print(f"{path}{pinned}", markup=False)
        if problem := cls().available():
            console.print(f"{name} can't run yet: {problem}", markup=False)
