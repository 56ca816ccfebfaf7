"""What a finished run is turned into: figures, contact sheet, report."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from iddmbench.report.contact_sheet import contact_sheet
from iddmbench.report.figures import histograms, render, tradeoff
from iddmbench.report.page import Drawings, report
from iddmbench.report.widths import width_of
from iddmbench.results.run_folder import FIGURES, REPORT, RunFolder
from iddmbench.store.files import write_bytes


def write_outputs(path: Path | str) -> RunFolder:
    """Write figures/tradeoff.png|svg, figures/histograms.png|svg, figures/contact_sheet.png and report.html into a run.

    Nothing in the run's tables is changed, so it may be called again at any time. Raises UserError when the folder is no
    finished run (`RunFolder.open`), OSError when it can't be written.
    """
    run = RunFolder.open(path)
    curve = save(tradeoff(run), run.path / FIGURES, "tradeoff")
    scores = save(histograms(run), run.path / FIGURES, "histograms")
    sheet = save_sheet(run, run.path / FIGURES, "contact_sheet")[0].read_bytes()
    html = report(run, Drawings(curve["svg"], scores["svg"], sheet, _narrow(run)))
    write_bytes(run.path / REPORT, html.encode())
    return run


def page_of(run: RunFolder) -> str:
    """The report of a finished run as text, its figures drawn for it; nothing is written."""
    sheet = io.BytesIO()
    contact_sheet(run).save(sheet, format="PNG")
    curve, scores = render(tradeoff(run), "svg"), render(histograms(run), "svg")
    return report(run, Drawings(curve, scores, sheet.getvalue(), _narrow(run)))


def _narrow(run: RunFolder) -> bytes:
    """The trade-off for a phone: its panels one above the other."""
    return render(tradeoff(run, width="column"), "svg")


def save(
    figure: Figure, folder: Path, name: str, formats: Iterable[str] = ("png", "svg"), width: str = "screen"
) -> dict[str, bytes]:
    """Write `name` in each of the formats that `render` knows; returns the files' contents by format.

    `width`: the one that it was drawn for; PNG has 160 dots per inch, and 320 for a paper.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dpi = 320 if width_of(width).inches else 160
    contents = {kind: render(figure, kind, dpi) for kind in formats}
    for kind, content in contents.items():
        write_bytes(folder / f"{name}.{kind}", content)
    return contents


def save_sheet(
    run: RunFolder, folder: Path, name: str, formats: Iterable[str] = ("png",), width: str = "screen"
) -> list[Path]:
    """Write the contact sheet as `name` in each of the formats "png", "svg" and "pdf"; returns the paths.

    SVG and PDF hold the same pixels, at the width of the column or page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sheet, paths = contact_sheet(run, width), []
    for kind in formats:
        stream = io.BytesIO()
        if kind == "png":
            sheet.save(stream, format="PNG")
        else:
            inches = width_of(width).inches or sheet.width / 160
            figure = Figure(figsize=(inches, inches * sheet.height / sheet.width), dpi=sheet.width / inches)
            FigureCanvasAgg(figure)
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set_axis_off()
            axes.imshow(np.asarray(sheet), aspect="auto", interpolation="none")
            stream.write(render(figure, kind))
        write_bytes(folder / f"{name}.{kind}", stream.getvalue())
        paths.append(folder / f"{name}.{kind}")
    return paths
