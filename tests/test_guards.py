"""Plugins can't hurt: what an attacker or a defense gives is checked where it comes in, and a failure is its own."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lab_plugins import Coarse, install
from tiny_base import write_base

from iddmbench.attacker import ATTACKERS, Attacker
from iddmbench.datasets.orl import photo
from iddmbench.defense import DEFENSES, Defense, Personalization
from iddmbench.errors import UserError
from iddmbench.models.recipe import LoraSettings
from iddmbench.personalize.trainer import PersonalizedModel
from iddmbench.results.run_folder import RunFolder, table_file
from iddmbench.run import pipeline
from iddmbench.run.config import RunConfig, make_config
from iddmbench.run.outcome import CellResult
from iddmbench.types import Embeddings

IMAGES = [photo(1, 1).image, photo(2, 1).image[:90]]


class Mine(Attacker):
    name, title, dim, licence, source = "mine", "a test's", 4, "none", "none"

    def __init__(self, made: Any):
        self.made = made

    def _embed(self, images, faces):
        assert isinstance(images, list) and all(x.dtype == np.uint8 and x.shape[2] == 3 for x in images)
        return self.made() if callable(self.made) else self.made

    def fingerprint(self) -> str:
        return "0" * 64


def two(vectors: Any = ((1, 0, 0, 0), (0, 0, 0, 0)), acquired: Any = (True, False), dtype: Any = np.float32) -> Any:
    return Embeddings(np.array(vectors, dtype), np.array(acquired))


def fails() -> None:
    raise KeyError("layer 3")


WRONG_EMBEDDINGS = {
    "NaN": (two([[np.nan, 0, 0, 0], [0] * 4]), "gives NaN or infinite vectors"),
    "1e20": (two([[1e20, 0, 0, 0], [0] * 4]), "gives vectors of length 1e+20, expected 1"),
    "not normalized": (
        two([[2, 0, 0, 0], [0] * 4]),
        "gives vectors of length 2, expected 1: divide each by its length",
    ),
    "zero where acquired": (two(acquired=[True, True]), "gives vectors of length 0, expected 1"),
    "not zero": (two(acquired=[False, False]), "gives a vector where it found no face"),
    "float64": (two(dtype=np.float64), "gives vectors of float64, expected float32"),
    "too few": (two([[1, 0, 0, 0]], [True]), "gives vectors of shape (1, 4) for 2 images, expected (2, 4)"),
    "wrong dim": (two(np.eye(2, 3)), "gives vectors of shape (2, 3) for 2 images, expected (2, 4)"),
    "no mask": (two(acquired=[1, 0]), "gives acquired of int64 (2,), expected bool (2,)"),
    "an array": (np.zeros((2, 4)), "gives ndarray, not Embeddings"),
    "None": (None, "gives NoneType, not Embeddings"),
    "raises": (fails, "failed: KeyError: 'layer 3'"),
}


@pytest.mark.parametrize("case", WRONG_EMBEDDINGS)
def test_a_wrong_embedding_is_refused_and_named(case: str) -> None:
    made, message = WRONG_EMBEDDINGS[case]
    with pytest.raises(UserError) as raised:
        Mine(made).embed(IMAGES)
    assert str(raised.value).startswith("attacker 'mine' ") and message in str(raised.value)


def test_right_ones_pass_and_inputs_are_converted() -> None:
    assert Mine(two()).embed(IMAGES).acquired.tolist() == [True, False]
    gray = [x[..., 0] for x in IMAGES]
    assert len(Mine(two()).embed(gray)) == 2 and len(Mine(two()).embed(np.stack([IMAGES[0]] * 2))) == 2
    assert Mine(fails).embed([]).vectors.shape == (0, 4)
    with pytest.raises(TypeError, match="uint8"):
        Mine(two()).embed([IMAGES[0] / 255.0])


def test_an_attacker_that_overrides_embed_is_checked_all_the_same() -> None:
    class Older(Attacker):
        name, title, dim, licence, source = "older", "t", 4, "none", "none"

        def embed(self, images, faces=None):
            return two([[3, 0, 0, 0], [0] * 4])

        def fingerprint(self) -> str:
            return "0" * 64

    with pytest.raises(UserError, match="attacker 'older' gives vectors of length 3"):
        Older().embed(IMAGES)


def test_what_is_no_fault_of_the_plugin_passes() -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError):
        Mine(full).embed(IMAGES)


# ---- defenses -----------------------------------------------------------------------------------------------------------

PHOTOS = np.zeros((4, 8, 8, 3), np.uint8)
EXPECTED = "expected uint8 (4, 8, 8, 3), with the number and size of the input"
WRONG_IMAGES = {
    "twice the images": (np.concatenate([PHOTOS, PHOTOS]), "gives uint8 (8, 8, 8, 3)"),
    "fewer": (PHOTOS[:2], "gives uint8 (2, 8, 8, 3)"),
    "half size": (PHOTOS[:, ::2, ::2], "gives uint8 (4, 4, 4, 3)"),
    "gray": (PHOTOS[..., 0], "gives uint8 (4, 8, 8)"),
    "RGBA": (np.zeros((4, 8, 8, 4), np.uint8), "gives uint8 (4, 8, 8, 4)"),
    "float in [0, 1]": (PHOTOS / 255.0, "gives float64 (4, 8, 8, 3)"),
    "a list": (list(PHOTOS), "gives list of 4"),
    "a tensor": (torch.zeros(4, 3, 8, 8), "gives Tensor"),
    "nothing": (None, "gives NoneType"),
}


@pytest.mark.parametrize("point", ["protect", "release"])
@pytest.mark.parametrize("case", WRONG_IMAGES)
def test_wrong_images_are_refused_and_named(case: str, point: str) -> None:
    given, message = WRONG_IMAGES[case]
    cls: Any = type("Wrong", (Defense,), {"name": "wrong", "title": "t", point: lambda self, images, bench: given})
    with pytest.raises(UserError) as raised:
        getattr(cls(), point)(PHOTOS, None)
    assert str(raised.value) == f"defense 'wrong': {point} {message}, {EXPECTED}"


class Bench:
    lora = LoraSettings.model_validate({})


def model(value: float = 0.0, rank: int = 16) -> PersonalizedModel:
    return PersonalizedModel({"w": torch.full((2,), value)}, LoraSettings.model_validate({"rank": rank}))


WRONG_MODELS = {
    "nothing": (None, "gives NoneType, expected Personalization"),
    "the model alone": (model(), "gives PersonalizedModel, expected Personalization"),
    "diverged": (Personalization(model(float("nan"))), "NaN or infinite weights (w): did its training diverge?"),
    "other settings": (Personalization(model(rank=2)), "settings differ from the workbench's"),
    "a title that is a path": (Personalization(model(), {"../../x": PHOTOS}), "images titled '../../x'"),
    "float pictures": (Personalization(model(), {"mine": PHOTOS / 255}), "('mine') gives float64"),
    "half-size pictures": (Personalization(model(), {"mine": PHOTOS[:, ::2]}), "gives uint8 (4, 4, 8, 3)"),
    "a trace of texts": (
        Personalization(model(), trace=[{"loss": "low"}]),
        "a trace whose 'loss' is not a number but str",
    ),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("case", WRONG_MODELS)
def test_a_wrong_model_is_refused_and_named(case: str) -> None:
    given, message = WRONG_MODELS[case]
    cls: Any = type(
        "Wrong", (Defense,), {"name": "wrong", "title": "t", "personalize": lambda self, images, bench: given}
    )
    with pytest.raises(UserError) as raised:
        cls().personalize(PHOTOS, Bench())
    assert str(raised.value).startswith("defense 'wrong': personalize ") and message in str(raised.value)


def test_a_defense_that_raises_is_named_and_one_that_is_right_passes() -> None:
    class Right(Defense):
        name, title = "right", "t"
        breaks: bool = False

        def release(self, images, bench):
            return images // (0 if self.breaks else 1) if not self.breaks else [][0]

        def personalize(self, references, bench):
            return Personalization(model(), {"mine": PHOTOS[:2]}, [{"loss": np.float32(0.5)}])  # type: ignore[dict-item]

    assert np.array_equal(Right().release(PHOTOS, None), PHOTOS)  # type: ignore[arg-type]
    trace = Right().personalize(PHOTOS, Bench()).trace  # type: ignore[arg-type]
    assert trace == [{"loss": 0.5}] and type(trace[0]["loss"]) is float
    assert Right.acts_on("release") and not Right.acts_on("protect")
    with pytest.raises(UserError, match="defense 'right': release failed: IndexError"):
        Right(breaks=True).release(PHOTOS, None)  # type: ignore[arg-type]


# ---- a failure costs that plugin's rows only ------------------------------------------------------------------------------


class Moody(Coarse):
    """Fails on what one defense posts, after all the training."""

    name = "moody"
    broken = True

    def _embed(self, images, faces):
        if self.broken and len(images) == 2 and images[0].shape == (64, 64, 3):
            posted = images[0].astype(int)
            if np.array_equal(posted, np.full_like(posted, 77)):
                return two([[np.nan] * 4] * 2)
        return super().embed(images, faces)

    embed = _embed


class Flat(Defense):
    name, title = "flat", "posts one gray"

    def release(self, images, bench):
        return np.full_like(images, 77)


class Halves(Defense):
    name, title = "halves", "posts half of the images"

    def release(self, images, bench):
        return images[::2]


@pytest.fixture(scope="module", autouse=True)
def plugins() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        patch.setitem(ATTACKERS._added, "moody", Moody)
        for cls in (Flat, Halves):
            patch.setitem(DEFENSES._added, cls.name, cls)
        yield


def configuration(base: Path, **changes: Any) -> RunConfig:
    options: dict[str, Any] = {"dataset": "tiny-orl", "subjects": 2, "base": str(base), "strengths": (1.0,)}
    options |= {"images_per_prompt": 1, "anchors": False, "attackers": ("coarse", "moody", "fine")}
    return make_config(options | changes)


def test_an_attacker_that_fails_loses_its_own_figures_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, out, cache = write_base(tmp_path / "base"), tmp_path / "out", tmp_path / "cache"
    config = configuration(base, defenses=("flat", "echo"))
    lost: list[tuple[str, str, str]] = []
    watch = pipeline.Progress(lost=lambda *facts: lost.append(facts))
    assert pipeline.run(config, out, cache, progress=watch) == 0
    assert [(attacker, condition) for attacker, condition, _ in lost] == [("moody", "flat-1.00")]
    assert lost[0][2].startswith("attacker 'moody' gives vectors of shape")
    assert "attacker 'moody' has no figures for flat-1.00" in (out / "failures.txt").read_text()
    run = RunFolder.open(out)
    rows = run.summary[run.summary["metric"] == "r1u"].groupby("defense")["attacker"].unique()
    assert set(rows["flat"]) >= {"coarse", "fine"} and "moody" not in rows["flat"]
    assert set(rows["echo"]) >= {"coarse", "moody", "fine"}
    # The worst case compares both conditions alike, so it is over the two that looked at both.
    alone = configuration(base, defenses=("flat", "echo"), attackers=("coarse", "fine"))
    pipeline.run(alone, tmp_path / "alone", cache)
    wanted = pd.read_parquet(tmp_path / "alone" / table_file("summary"))
    for table in (run.summary, wanted):
        table.drop(table[table["attacker"] == "moody"].index, inplace=True)
    keys = ["defense", "attacker", "metric", "policy"]
    pd.testing.assert_frame_equal(
        run.summary.sort_values(keys).reset_index(drop=True), wanted.sort_values(keys).reset_index(drop=True)
    )
    # Mended, the same command fills in what was missing.
    monkeypatch.setattr(Moody, "broken", False)
    lost.clear()
    assert pipeline.run(config, out, cache, progress=watch) == 0 and lost == []
    again = pd.read_parquet(out / table_file("summary"))
    assert "moody" in set(again[(again["defense"] == "flat") & (again["metric"] == "fta")]["attacker"])
    assert not (out / "failures.txt").exists()


def test_a_defense_that_fails_loses_its_own_cells_only(tmp_path: Path) -> None:
    base, out = write_base(tmp_path / "base"), tmp_path / "out"
    told: list[CellResult] = []
    watch = pipeline.Progress(done=told.append)
    config = configuration(base, defenses=("halves", "echo"), attackers=("coarse",))
    assert pipeline.run(config, out, tmp_path / "cache", progress=watch) == 2
    cells = RunFolder.open(out).cells
    assert dict(zip(cells["defense"], cells["status"], strict=True)) == {"halves": "failed", "echo": "ok"}
    message = "defense 'halves': release gives uint8 (1, 64, 64, 3), expected uint8 (2, 64, 64, 3)"
    assert all(message in error for error in cells[cells["defense"] == "halves"]["error"])
    assert [message in outcome.error for outcome in told] == [True, True, False, False]
    assert not (out / "images" / "halves-1.00").exists()
