"""Photos that somebody else has protected, in place of the references."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lab_plugins import TinyORL
from PIL import Image
from typer.testing import CliRunner

from iddmbench.cells.cell import PROTECTED, Cell
from iddmbench.cells.stages import CellStages
from iddmbench.cli import app
from iddmbench.conformance import Skip
from iddmbench.conformance.defense import CHECKS, DefenseSubject
from iddmbench.defense import DEFENSES, Defense, configure
from iddmbench.errors import UserError
from iddmbench.faces.detect import YuNet
from iddmbench.models.base import BaseModel
from iddmbench.photos.references import crop_references
from iddmbench.results.run_folder import RunFolder
from iddmbench.store.cache import Store
from iddmbench.store.files import write_images

pytestmark = pytest.mark.usefixtures("plugins")


@pytest.fixture(scope="module")
def stages(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> CellStages:
    store = Store(tmp_path_factory.mktemp("cache"))
    return CellStages(base, TinyORL().load(), store, base.recipe.lora, base.recipe.sampling, (), 1)


def cell(stages: CellStages, defense: Defense) -> Cell:
    return Cell(stages.data.subjects[0], defense, 0)


@pytest.fixture(scope="module")
def noisy(stages: CellStages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FOLDER/s29: what the defense random-noise makes of the references."""
    folder = tmp_path_factory.mktemp("protected")
    noise = configure(DEFENSES.get("random-noise"), {})
    write_images(folder / "s29", stages.outputs(cell(stages, noise)).extras[PROTECTED])
    return folder


def build(folder: Path, **options: object) -> Defense:
    return configure(DEFENSES.get("protected-photos"), {"folder": str(folder), **options})


def test_photos_of_a_defense_give_what_the_defense_gives(stages: CellStages, noisy: Path) -> None:
    """The same protected references, and so the same model and the same images."""
    own = stages.outputs(cell(stages, configure(DEFENSES.get("random-noise"), {})))
    given = stages.outputs(cell(stages, build(noisy)))
    assert np.array_equal(given.extras[PROTECTED], own.extras[PROTECTED])
    assert np.array_equal(given.images, own.images)
    undefended = stages.outputs(cell(stages, configure(DEFENSES.get("none"), {})))
    assert not np.array_equal(given.images, undefended.images)


def test_results_depend_on_the_photos_and_not_on_where_they_lie(
    stages: CellStages, noisy: Path, tmp_path: Path
) -> None:
    shutil.copytree(noisy, tmp_path / "moved")
    before = stages.image_key(cell(stages, build(noisy)))
    assert stages.image_key(cell(stages, build(tmp_path / "moved"))) == before
    changed = np.asarray(Image.open(noisy / "s29" / "01.png")) ^ 1
    Image.fromarray(changed).save(tmp_path / "moved" / "s29" / "01.png")
    other = build(tmp_path / "moved")
    assert stages.image_key(cell(stages, other)) != before
    # As its configuration is noted in a run folder: without the path, and still the same cell.
    noted = configure(DEFENSES.get("protected-photos"), other.model_dump())
    assert "folder" not in other.model_dump()
    assert stages.image_key(cell(stages, noted)) == stages.image_key(cell(stages, other))
    with pytest.raises(UserError, match="are not the ones this configuration was made with"):
        build(noisy, content=other.model_dump()["content"])


def test_whole_photos_are_cropped_as_references_are(base: BaseModel, stages: CellStages, tmp_path: Path) -> None:
    """Unprotected photos of another size than the base's become the references themselves; the order is that of the names."""
    subject = stages.data.subjects[0]
    (tmp_path / "s29").mkdir()
    for name, photo in zip("ba", subject.references, strict=True):
        Image.fromarray(photo.image).save(tmp_path / "s29" / f"{name}.png")
    assert subject.references[0].image.shape[:2] != (base.side, base.side)
    found = stages.outputs(cell(stages, build(tmp_path))).extras[PROTECTED]
    assert np.array_equal(found, crop_references(subject, base, YuNet())[::-1])


@pytest.fixture(scope="module")
def subject(noisy: Path) -> DefenseSubject:
    return DefenseSubject(DEFENSES.get("protected-photos"), "protected-photos", {"folder": str(noisy)})


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(check: Callable[[DefenseSubject], None], subject: DefenseSubject) -> None:
    try:
        check(subject)
    except Skip as reason:
        pytest.skip(str(reason))


def run(base: BaseModel, *arguments: str):  # type: ignore[no-untyped-def]
    usual = ["run", "--dataset", "tiny-orl", "--base", base.name, "--attacker", "coarse", "--images-per-prompt", "1"]
    return CliRunner().invoke(app, [*usual, *arguments])


@pytest.mark.slow
def test_a_run_on_protected_photos(
    base: BaseModel, noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--references-protected` is the defense with its folder, at strength 1, beside the anchors."""
    monkeypatch.setenv("IDDMBENCH_CACHE", str(tmp_path / "cache"))
    result = run(base, "--subjects", "1", "--references-protected", str(noisy), "--out", str(tmp_path / "short"))
    assert result.exit_code == 0, result.output
    long = ["--defense", "protected-photos", "--set", f"folder={noisy}", "--strength", "1"]
    result = run(base, "--subjects", "1", *long, "--out", str(tmp_path / "long"))
    assert result.exit_code == 0, result.output
    short, other = (RunFolder.open(tmp_path / name) for name in ("short", "long"))
    assert sorted(short.cells["defense"]) == ["generic", "none", "protected-photos"]
    assert short.cells["strength"].max() == 1
    pd.testing.assert_frame_equal(short.summary, other.summary)
    assert other.cells["cached"].all()
    assert short.config == other.config
    row = short.cells[short.cells["defense"] == "protected-photos"].iloc[0]
    assert row["photo_linf"] == 16  # random-noise's budget
    assert str(noisy) not in (tmp_path / "short" / "report.html").read_text()


WRONG = {
    "no folder": (["--references-protected", "{}/nowhere"], ["nowhere is not a folder", "PERSON/*.png"]),
    "empty": (["--references-protected", "{}/empty"], ["holds no protected photos", "PERSON/*.png"]),
    "missing person": (
        ["--references-protected", "{}/photos", "--subjects", "2"],
        ["no folder of protected photos for 's30'", "known: s29"],
    ),
    "count": (["--references-protected", "{}/short"], ["holds 1 photos, but s29 has 2 references"]),
    "with a defense": (
        ["--references-protected", "{}/photos", "--defense", "aspl"],
        ["--references-protected", "leave"],
    ),
    "no option": (["--defense", "protected-photos", "--strength", "1"], ["needs --set folder=DIR"]),
    "strength": (
        ["--defense", "protected-photos", "--set", "folder={}/photos", "--strength", "0.5"],
        ["takes photos as they are: give --strength 1"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(
    case: str, base: BaseModel, noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(noisy, tmp_path / "photos")
    shutil.copytree(noisy, tmp_path / "short")
    (tmp_path / "short" / "s29" / "01.png").unlink()
    (tmp_path / "empty" / "s29").mkdir(parents=True)
    arguments, parts = WRONG[case]
    usual = [] if "--subjects" in arguments else ["--subjects", "1"]
    result = run(base, *usual, *(text.format(tmp_path) for text in arguments))
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert result.exit_code == 2 and len(lines) == 1 and "Traceback" not in result.output, result.output
    assert all(part in lines[0] for part in parts), lines[0]
    assert not (tmp_path / "runs").exists()


def test_photos_that_can_not_be_used(base: BaseModel, stages: CellStages, noisy: Path, tmp_path: Path) -> None:
    shutil.copytree(noisy, tmp_path / "p")
    Image.fromarray(np.zeros((80, 80, 3), np.uint8)).save(tmp_path / "p" / "s29" / "01.png")
    with pytest.raises(UserError, match=r"no face found in protected photo .*01\.png"):
        stages.outputs(cell(stages, build(tmp_path / "p")))
    (tmp_path / "p" / "s29" / "01.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"01\.png can't be read"):
        stages.outputs(cell(stages, build(tmp_path / "p")))
    defense = build(tmp_path / "p")
    (tmp_path / "p" / "s29" / "00.png").write_bytes(b"other")
    with pytest.raises(UserError, match="have changed since the run began"):
        stages.outputs(cell(stages, defense))
