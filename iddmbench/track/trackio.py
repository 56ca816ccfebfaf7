"""Trackio: a run in a local project, or (TRACKIO_SPACE_ID, TRACKIO_SERVER_URL) on a Hugging Face Space or a server."""

import os
from contextlib import redirect_stdout
from io import StringIO

from iddmbench.track.base import PROJECT, Tracker
from iddmbench.track.record import Record

ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class Trackio(Tracker):
    """Figures as one step, settings as the run's config, a table with intervals, pictures. Logged again, it is a new entry."""

    name = "trackio"
    package = "trackio"

    def __init__(self) -> None:
        self.leaves = any(os.environ.get(variable) for variable in ELSEWHERE)

    def _log(self, record: Record) -> str:
        with redirect_stdout(StringIO()):  # it prints how to open its page, at length
            import trackio

            trackio.init(
                project=PROJECT,
                name=record.name,
                group=record.group or None,
                config=dict(record.settings),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            try:
                trackio.log(record.named())
                trackio.log({"figures": trackio.Table(dataframe=record.table())})
                trackio.log({name: trackio.Image(path) for name, path in record.pictures.items()})
            finally:
                trackio.finish()
        return f"trackio: project {PROJECT} (trackio show --project {PROJECT})"
