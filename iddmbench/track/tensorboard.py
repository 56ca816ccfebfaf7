"""TensorBoard: event files in the run's folder."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from iddmbench.track.base import Tracker
from iddmbench.track.record import Record, TrackedFigure

FOLDER = "tensorboard"
SHOWN = ("r1u", "psr@1e-2", "psr@1e-3", "utility_index", "face_detection_rate")
"""Metrics of the table on the text page; all are among the scalars."""


def tag(figure: TrackedFigure) -> str:
    """A scalar's name, the same for all strengths, which are its steps: "iddm/worst-case/r1u"."""
    text = f"{figure.defense}/{figure.judge}/{figure.metric.replace('@', '_at_')}"
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_./") else "_" for c in text)


def step(figure: TrackedFigure) -> int:
    """The strength in per cent, so that a curve over it is drawn."""
    return 0 if figure.strength is None else round(100 * figure.strength)


class TensorBoard(Tracker):
    """RUN/tensorboard: scalars over the strength in per cent, figures with intervals as text, pictures, hyperparameters."""

    name = "tensorboard"
    package = "tensorboard"

    def _log(self, record: Record) -> str:
        from torch.utils.tensorboard import SummaryWriter

        folder = record.folder / FOLDER
        shutil.rmtree(folder, ignore_errors=True)  # else TensorBoard shows both
        with SummaryWriter(str(folder)) as writer:
            for figure in record.figures:
                writer.add_scalar(tag(figure), figure.value, step(figure))
            writer.add_text("figures", record.markdown(SHOWN))
            writer.add_text("settings", settings_table(record))
            for name, path in record.pictures.items():
                writer.add_image(name, pixels(path), dataformats="HWC")
            metrics = {f"chosen/{name.replace('@', '_at_')}": value for name, value in record.chosen.items()}
            writer.add_hparams(dict(record.settings), metrics, run_name=".")
        return f"tensorboard: {folder} (tensorboard --logdir {record.folder.parent})"


def settings_table(record: Record) -> str:
    """Markdown: a row per setting."""
    rows = [f"| {key} | {str(value).replace('|', ' ')} |" for key, value in record.settings.items()]
    return "\n".join(["| setting | value |", "|---|---|", *rows])


def pixels(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] of a PNG file."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
