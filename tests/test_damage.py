"""Damaged entries of the cache: a run finds them, sets them aside, says so, and gives the figures that it gave before."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, rmtree

import pandas as pd
import pytest
from test_maintenance import read_only
from tiny_base import write_base

from iddmbench.results.run_folder import TABLES, table_file
from iddmbench.run import pipeline
from iddmbench.run.config import RunConfig, make_config
from iddmbench.store import maintenance
from iddmbench.store.cache import Store, UnwritableCache
from iddmbench.store.cache import checksums as checksums_of

pytestmark = pytest.mark.usefixtures("plugins")


@pytest.fixture(scope="module")
def finished(plugins: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunConfig]:
    """A folder with a run in out/ and its cache in cache/. Read only."""
    root = tmp_path_factory.mktemp("run")
    options = {"dataset": "tiny-orl", "subjects": 1, "base": str(write_base(root / "base")), "defenses": ("echo",)}
    config = make_config(options | {"strengths": (0.5,), "attackers": ("coarse",), "images_per_prompt": 1})
    assert pipeline.run(config, root / "out", root / "cache") == 0
    return root, config


def flip(path: Path) -> None:
    """One bit in the middle, with the file's time as it was."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def every(cache: Path, pattern: str, damage: Callable[[Path], None]) -> int:
    found = sorted(cache.glob(pattern))
    for path in found:
        damage(path)
    return len(found)


AFTER_MODEL = ("generate", "release", "embed", "utility", "score")


@pytest.mark.parametrize(
    ("damage", "pattern", "forgotten"),
    [
        (flip, "personalize/*/*/adapter.safetensors", AFTER_MODEL),
        (cut, "personalize/*/*/adapter.safetensors", AFTER_MODEL),
        (flip, "generate/*/*/00.png", AFTER_MODEL[1:]),
        (cut, "release/*/*/00.png", ()),
        (flip, "references/*/*/00.png", ("personalize", "features", *AFTER_MODEL)),
        (flip, "embed/*/*/embeddings.npz", ("premise", "score", "calibration")),
        (cut, "embed/*/*/embeddings.npz", ("premise", "score", "calibration")),
        (flip, "utility/*/*/utility.npz", ("score",)),
        (Path.unlink, "features/*/*/features.npz", ("utility", "score")),
        (flip, "score/*/*/summary.parquet", ()),
        (cut, "score/*/*/probes.parquet", ()),
        (flip, "calibration/*/*/calibration.parquet", ()),
        (cut, "score/*/*/key.json", ()),
        (Path.unlink, "score/*/*/key.json", ()),
        (cut, "score/*/*/files.json", ()),
    ],
)
def test_damage_is_found_and_mended(
    finished: tuple[Path, RunConfig],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    pattern: str,
    forgotten: tuple[str, ...],
    damage: Callable[[Path], None],
) -> None:
    """forgotten: stages that are computed again anyway, so that the damaged files are read."""
    (root, config), stage = finished, pattern.partition("/")[0]
    cache = copytree(root / "cache", tmp_path / "cache")
    for other in forgotten:
        rmtree(cache / other)
    assert every(cache, pattern, damage) > 0
    with caplog.at_level(logging.WARNING):
        assert pipeline.run(config, tmp_path / "out", cache) == 0
    assert f"damaged cache entry {cache / stage}" in caplog.text
    assert f"moved to {cache / 'damaged' / stage}-" in caplog.text
    same_figures(root / "out", tmp_path / "out")
    assert not [
        problem for path, problem in maintenance.check(Store(cache)) if problem and path.parents[1].name == stage
    ]
    rmtree(tmp_path / "out")
    caplog.clear()
    assert pipeline.run(config, tmp_path / "out", cache) == 0 and "damaged" not in caplog.text


def same_figures(one: Path, two: Path) -> None:
    for name in TABLES:
        left, right = (pd.read_parquet(folder / table_file(name)) for folder in (one, two))
        timed = [c for c in left if c == "cached" or c.startswith(("seconds", "peak"))]
        pd.testing.assert_frame_equal(left.drop(columns=timed), right.drop(columns=timed), check_exact=True)
    for path in one.glob("images/**/*.png"):
        assert (two / path.relative_to(one)).read_bytes() == path.read_bytes()


def text(out: Path, content: str = "right") -> None:
    (out / "file.txt").write_text(content)


def test_what_was_checked_is_read_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    entry = store.fetch("stage", {"a": 1}, text)
    hashed: list[Path] = []
    monkeypatch.setattr(
        "iddmbench.store.cache.checksums", lambda path, real=checksums_of: hashed.append(path) or real(path)
    )
    for _ in range(3):
        store.fetch("stage", {"a": 1}, text)
    assert hashed == [entry]
    (entry / "file.txt").write_text("wrong")
    assert (store.fetch("stage", {"a": 1}, text) / "file.txt").read_text() == "right"
    assert len(list((tmp_path / "damaged").iterdir())) == 1 and store.find("stage", {"a": 2}) is None
    assert maintenance.collect(store).leftovers == 1 and not list((tmp_path / "damaged").iterdir())


def test_a_damaged_entry_that_cannot_be_mended_is_named(tmp_path: Path) -> None:
    """Nothing is served from it, and nothing can be written: the run stops."""
    root = tmp_path / "cache"
    entry = Store(root).fetch("stage", {"a": 1}, text)
    flip(entry / "file.txt")
    with (
        read_only(root),
        pytest.raises(UnwritableCache, match=rf"cache entry {entry} is damaged \(changed or missing: file"),
    ):
        Store(root).fetch("stage", {"a": 1}, text)
