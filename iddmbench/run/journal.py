"""log.jsonl: what happened in a run or sweep, one JSON object a line, written by the process that holds the folder."""

import json
import os
import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from iddmbench.run.outcome import CellResult

FILE = "log.jsonl"


class Journal:
    """Appends events to a folder's log. Use as a context manager. A killed process leaves at most one line that is cut."""

    def __init__(self, folder: Path):
        self.path = folder / FILE

    def __enter__(self) -> "Journal":
        cut = self.path.is_file() and self.path.read_bytes()[-1:] not in (b"\n", b"")
        self._file = self.path.open("a", encoding="utf-8")
        if cut:
            self._file.write("\n")
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def note(self, event: str, **facts: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._file.write(json.dumps({"time": now, "event": event, **facts}) + "\n")
        self._file.flush()

    def begin(self, runs: Mapping[str, int], **facts: Any) -> None:
        """runs: number of cells by run."""
        self.note("begin", process=f"{os.getpid()}@{platform.node()}", runs=dict(runs), **facts)

    def cell(self, run: str, outcome: CellResult, **facts: Any) -> None:
        status = "ok" if outcome.ok else "failed"
        self.note(
            "cell",
            run=run,
            name=outcome.cell.name,
            status=status,
            cached=outcome.cached,
            seconds=round(outcome.seconds, 3),
            error=outcome.error,
            traceback=outcome.traceback,
            **facts,
        )

    def end(self, failed: int) -> None:
        self.note("end", failed=failed)


def read_journal(folder: Path) -> Iterator[dict[str, Any]]:
    """Events in order; a line that was cut is left out."""
    path = folder / FILE
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                yield event
