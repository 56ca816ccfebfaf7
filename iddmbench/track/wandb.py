"""Weights & Biases: a run in a project, on its server or (WANDB_MODE=offline) in the run's folder."""

import hashlib
import os

from iddmbench.errors import UserError
from iddmbench.track.base import PROJECT, Tracker
from iddmbench.track.record import Record

HERE = ("offline", "dryrun", "disabled")
"""Values of WANDB_MODE that need no login."""


class WeightsAndBiases(Tracker):
    """Figures as the run's summary and as a table with intervals, settings as its config, pictures.

    WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE and the package's other variables apply.
    """

    name = "wandb"
    package = "wandb"
    leaves = True

    def check(self) -> None:
        super().check()
        if os.environ.get("WANDB_MODE", "").lower() in HERE:
            return
        import wandb

        if not wandb.login(prompt=False):
            raise UserError(
                "--track wandb: nobody is logged in: run `wandb login`, or set WANDB_MODE=offline and `wandb sync` later"
            )

    def _log(self, record: Record) -> str:
        import wandb

        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=record.name,
            group=record.group or None,
            id=identity(record),  # the same run again takes the place of the old entry
            resume="allow",
            job_type="sweep" if record.group else "run",
            config=dict(record.settings),
            dir=os.environ.get("WANDB_DIR") or str(record.folder),
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        try:
            run.log({name: wandb.Image(str(path)) for name, path in record.pictures.items()})
            run.log({"figures": wandb.Table(dataframe=record.table())})
            run.summary.update(record.named())
        finally:
            run.finish()
        return f"wandb: {run.url or run.dir}"


def identity(record: Record) -> str:
    """16 hex digits that follow from the folder's name and the settings."""
    text = repr((record.group, record.name, sorted(record.settings.items())))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
