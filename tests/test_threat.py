"""Who personalizes on protected photos, presets of the defenses, and what their photos' change comes to."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lab_plugins import TinyORL
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tiny_base import write_base

from iddmbench.cells.cell import Cell, UnauthorizedTrainer
from iddmbench.cells.stages import CellStages
from iddmbench.defense import DEFENSES, configure
from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel, load_base
from iddmbench.run import pipeline
from iddmbench.run.config import RunConfig, make_config
from iddmbench.store.cache import Store

pytestmark = pytest.mark.usefixtures("plugins")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def base(folder: Path) -> BaseModel:
    return load_base(str(folder))


def configuration(base: Path | str, **changes: Any) -> RunConfig:
    options: dict[str, Any] = {"dataset": "tiny-orl", "subjects": 1, "base": str(base), "defenses": ("random-noise",)}
    options |= {"strengths": (1.0,), "attackers": ("coarse",), "images_per_prompt": 1}
    return make_config(options | changes)


def stages(base: BaseModel, cache: Path, trainer: UnauthorizedTrainer | None = None, data: Any = None) -> CellStages:
    recipe = base.recipe
    return CellStages(base, data or TinyORL().load(), Store(cache), recipe.lora, recipe.sampling, (), 1, trainer)


def cell(stages: CellStages, name: str) -> Cell:
    return Cell(stages.data.subjects[0], configure(DEFENSES.get(name), {}), 0)


def test_an_unauthorized_trainer_trains_on_the_protected_photos(base: BaseModel, tmp_path: Path) -> None:
    """Without purification they get what the owner gets; with it, another model, of unprotected photos too."""
    owner, trainer, cleaner = (
        stages(base, tmp_path, t) for t in (None, UnauthorizedTrainer(), UnauthorizedTrainer("blur-1"))
    )
    for name in ("none", "random-noise"):
        images = [x.outputs(cell(x, name)).images for x in (owner, trainer, cleaner)]
        assert np.array_equal(images[0], images[1]) and not np.array_equal(images[0], images[2])
    plain, purified = (x.outputs(cell(x, "random-noise")) for x in (trainer, cleaner))
    shown = "protected references"
    assert np.array_equal(plain.extras[shown], purified.extras[shown])  # what the owner published


def test_the_generic_model_is_nobodys(base: BaseModel, tmp_path: Path) -> None:
    owner, cleaner = stages(base, tmp_path), stages(base, tmp_path, UnauthorizedTrainer("jpeg-50"))
    assert np.array_equal(*(x.outputs(cell(x, "generic")).images for x in (owner, cleaner)))


def test_an_unauthorized_trainer_leaves_out_the_rest_of_the_defense(base: BaseModel, tmp_path: Path) -> None:
    """He trains plainly and posts what comes out: an output-side defense gives the undefended images."""
    trainer = stages(base, tmp_path, UnauthorizedTrainer())
    assert np.array_equal(*(trainer.outputs(cell(trainer, name)).images for name in ("none", "pixelate")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threat": "unauthorized", "defenses": ("iddm",)}, r"defense 'iddm' does not act on the photos"),
        ({"threat": "unauthorized", "defenses": ("blur",)}, r"defense 'blur' does not act on the photos"),
        (
            {"purify": "jpeg-75"},
            r"purify: only an unauthorized trainer purifies the photos; give --threat unauthorized too",
        ),
        ({"threat": "unauthorized", "purify": "jpg-75"}, r"unknown purifier 'jpg-75': did you mean 'jpeg-75'"),
        ({"defenses": ("aspl",), "preset": "mikro"}, r"defense 'aspl' has no preset 'mikro': did you mean 'micro'"),
    ],
)
def test_settings_that_make_no_sense(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        configuration(folder, **changes).check()


def test_an_unknown_setting(folder: Path) -> None:
    with pytest.raises(UserError, match=r"threat: .*'authorized' or 'unauthorized'"):
        configuration(folder, threat="friendly")


@pytest.mark.parametrize(
    ("base", "preset", "rounds"),
    [("micro", "", 20), ("micro", "paper", 50), ("sd15", "", 50), ("sd15", "micro", 20)],
)
def test_presets(base: str, preset: str, rounds: int) -> None:
    """The one named like the base unless another is asked for; single options go over it."""
    plan = configuration(base, defenses=("aspl", "random-noise"), preset=preset).plan()
    assert [d.rounds for d in plan if d.name == "aspl"] == [rounds]  # type: ignore[attr-defined]
    own = configuration(base, defenses=("aspl",), preset=preset, defense_options={"rounds": "7"}).plan()
    assert [d.rounds for d in own if d.name == "aspl"] == [7]  # type: ignore[attr-defined]


def test_the_change_of_the_photos_is_in_the_tables(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert pipeline.run(configuration(folder), out, tmp_path / "cache") == 0
    cells = pd.read_parquet(out / "cells.parquet").set_index("defense")
    clean, noisy = (
        _images(out / name) for name in ("references/s29", "extras/random-noise-1.00/s29/protected references")
    )
    pairs = list(zip(clean, noisy, strict=True))
    row = cells.loc["random-noise"]
    assert row["photo_linf"] == 16 == np.abs(clean.astype(int) - noisy).max()
    assert row["photo_psnr"] == pytest.approx(np.mean([peak_signal_noise_ratio(a, b) for a, b in pairs]))
    ssim = [
        structural_similarity(a, b, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        for a, b in pairs
    ]
    assert row["photo_ssim"] == pytest.approx(np.mean(ssim), abs=1e-6)
    assert np.isnan(cells.loc["none", "photo_psnr"])
    summary = pd.read_parquet(out / "summary.parquet")
    found = summary[summary["metric"] == "photo_psnr"]
    assert found["defense"].tolist() == ["random-noise"] and found["value"].item() == pytest.approx(row["photo_psnr"])


def _images(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def test_a_surrogate_set_that_shares_photos_is_noted(
    base: BaseModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = TinyORL().load()
    first = data.subjects[0]
    shared = replace(first, surrogate=(first.references[0], first.enrolment[0]))
    found = stages(base, tmp_path, data=replace(data, subjects=(shared,)))
    bench = found.bench(cell(found, "aspl"))
    assert bench.surrogate_photos.shape == (2, 64, 64, 3)
    assert "s29: the surrogate set shares photos with the references: s29/1" in caplog.text
    plain = stages(base, tmp_path)
    assert plain.bench(cell(plain, "aspl")).surrogate_photos.shape == (0, 64, 64, 3)
