"""What a finished run is turned into: figures, contact sheet, report."""

import io
from collections.abc import Iterable
from pathlib import Path

from matplotlib.figure import Figure

from iddmbench.report.contact_sheet import contact_sheet
from iddmbench.report.figures import histograms, render, tradeoff
from iddmbench.report.page import Drawings, report
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
    sheet = save_sheet(run, run.path / FIGURES, "contact_sheet").read_bytes()
    html = report(run, Drawings(curve["svg"], scores["svg"], sheet))
    write_bytes(run.path / REPORT, html.encode())
    return run


def page_of(run: RunFolder) -> str:
    """The report of a finished run as text, its figures drawn for it; nothing is written."""
    sheet = io.BytesIO()
    contact_sheet(run).save(sheet, format="PNG")
    return report(run, Drawings(render(tradeoff(run), "svg"), render(histograms(run), "svg"), sheet.getvalue()))


def save(figure: Figure, folder: Path, name: str, formats: Iterable[str] = ("png", "svg")) -> dict[str, bytes]:
    """Write `name` in each of the formats that `render` knows; returns the files' contents by format."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {kind: render(figure, kind) for kind in formats}
    for kind, content in contents.items():
        write_bytes(folder / f"{name}.{kind}", content)
    return contents


def save_sheet(run: RunFolder, folder: Path, name: str) -> Path:
    """Write the contact sheet as `name`.png; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    contact_sheet(run).save(stream, format="PNG")
    write_bytes(folder / f"{name}.png", stream.getvalue())
    return folder / f"{name}.png"
