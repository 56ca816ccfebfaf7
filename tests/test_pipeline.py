"""The main path on a tiny base: what it writes, what it reuses, what it survives, and that its figures are right."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lab_plugins import SUBJECTS, TinyORL, install
from tiny_base import write_base

from iddmbench.attacker import ATTACKERS
from iddmbench.cells.cell import Cell
from iddmbench.cells.stages import CellStages
from iddmbench.defenses.generic import GenericModel
from iddmbench.errors import UserError
from iddmbench.linking.enrolment import enrol
from iddmbench.linking.linker import Linker
from iddmbench.metrics.policies import most_pessimistic_policy
from iddmbench.models.base import load_base
from iddmbench.report.write import write_outputs
from iddmbench.results.headline import headlines
from iddmbench.results.run_folder import SCHEMA, TABLES, WORST_CASES, RunFolder, table_file
from iddmbench.results.summary import Summary
from iddmbench.run import pipeline
from iddmbench.run.config import RunConfig, make_config
from iddmbench.store.cache import Store

STRENGTHS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Finished:
    """A run that several tests read; `cache` holds all that it computed."""

    out: Path
    cache: Path
    base: Path
    config: RunConfig

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.out / table_file(name))

    def again(self, out: Path, cache: Path | None = None, **changes: Any) -> "Finished":
        """Run once more, with changes of the configuration."""
        config = make_config(self.config.model_dump() | changes)
        other = replace(self, out=out, cache=cache or self.cache, config=config)
        pipeline.run(config, out, other.cache)
        return other


@pytest.fixture(scope="module", autouse=True)
def plugins() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        yield


def configuration(base: Path, **changes: Any) -> RunConfig:
    options: dict[str, Any] = {"dataset": "tiny-orl", "subjects": 2, "base": str(base), "defenses": ("echo",)}
    options |= {"strengths": STRENGTHS, "attackers": ("coarse", "fine"), "images_per_prompt": 2}
    return make_config(options | changes)


@pytest.fixture(scope="module")
def finished(plugins: None, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("run")
    base = write_base(root / "base")
    config = configuration(base)
    assert pipeline.run(config, root / "out", root / "cache") == 0
    return Finished(root / "out", root / "cache", base, config)


def nothing_computed(patch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("computed again")

    for name in ("cells.stages.generate", "cells.stages.class_latents", "cells.crops.crop_references"):
        patch.setattr(f"iddmbench.{name}", refuse)
    patch.setattr("iddmbench.personalize.trainer.Trainer.train", refuse)


# ---- what it writes ---------------------------------------------------------------------------------------------------


def test_the_folder_is_complete(finished: Finished) -> None:
    run = RunFolder.open(finished.out)
    for name, columns in TABLES.items():
        assert set(columns) <= set(finished.table(name).columns)
    conditions, images = 2 + len(STRENGTHS), 4
    assert len(run.cells) == conditions * 2 and set(run.cells["status"]) == {"ok"}
    assert len(run.images) == len(run.cells) * images and len(run.probes) == 2 * len(run.images)
    assert len(run.calibration) == 4
    assert not run.cells["cell"].duplicated().any()
    assert all(run.picture(path) is not None for path in run.images["image"])
    assert run.subfolders("references") == ["s29", "s30"]
    keys = ["defense", "strength", "attacker", "metric", "policy"]
    assert not run.summary.duplicated(keys).any()
    assert not list(finished.out.rglob("*.part")) and list((finished.cache / "tmp").iterdir()) == []
    assert run.images[run.images["defense"] == "none"]["strength"].isna().all()


def test_a_report_can_be_made(finished: Finished, tmp_path: Path) -> None:
    other = finished.again(tmp_path / "out")
    write_outputs(other.out)
    assert (other.out / "report.html").stat().st_size > 10_000


def test_no_enrolment_photo_is_written(finished: Finished) -> None:
    """Or even read by a stage of the model owner: images in the folder are the generated ones and the references."""
    enrolled = {p.image.mean() for s in TinyORL().load().subjects for p in s.enrolment}
    run = RunFolder.open(finished.out)
    shown = [run.picture(path.relative_to(finished.out)) for path in finished.out.rglob("*.png")]
    assert shown and not any(image.mean() in enrolled for image in shown if image is not None)


# ---- the same run again -----------------------------------------------------------------------------------------------


def test_a_second_run_computes_nothing(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_computed(monkeypatch)
    other = finished.again(tmp_path / "out")
    assert other.table("cells")["cached"].all() and not finished.table("cells")["cached"].any()
    for name in set(TABLES) - {"cells"}:
        assert (other.out / table_file(name)).read_bytes() == (finished.out / table_file(name)).read_bytes(), name
    left, right = (run.table("cells").drop(columns="cached") for run in (finished, other))
    pd.testing.assert_frame_equal(left, right)  # the seconds too: what it cost when it was computed


def test_into_the_same_folder(finished: Finished) -> None:
    before = finished.table("summary")
    finished.again(finished.out)
    pd.testing.assert_frame_equal(finished.table("summary"), before)
    finished.again(finished.out)
    # Put the first state back for the others: a finished run from a fresh cache.
    cells = finished.table("cells").assign(cached=False)
    cells.to_parquet(finished.out / table_file("cells"), index=False)


def test_a_fresh_cache_gives_the_same_tables(finished: Finished, tmp_path: Path) -> None:
    other = finished.again(tmp_path / "out", tmp_path / "cache")
    for name in set(TABLES) - {"cells"}:
        pd.testing.assert_frame_equal(other.table(name), finished.table(name), check_exact=True)
    left, right = (run.table("cells") for run in (finished, other))
    timed = ["cached", *(c for c in left if c.startswith(("seconds", "peak")))]
    left, right = left.drop(columns=timed), right.drop(columns=timed)
    pd.testing.assert_frame_equal(left, right)


def test_a_new_attacker_only_embeds(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    finished.again(tmp_path / "one", cache, attackers=("coarse",), strengths=(1.0,))
    nothing_computed(monkeypatch)
    two = finished.again(tmp_path / "two", cache, attackers=("coarse", "fine"), strengths=(1.0,))
    assert two.table("cells")["cached"].all()
    assert set(two.table("probes")["attacker"]) == {"coarse", "fine"}
    wanted = finished.table("probes")
    wanted = wanted[wanted["strength"].isna() | (wanted["strength"] == 1)].reset_index(drop=True)
    pd.testing.assert_frame_equal(two.table("probes"), wanted)


def test_a_defense_of_outputs_shares_the_undefended_model(finished: Finished) -> None:
    """Two subjects, undefended and generic: four models, and none for `echo`."""
    assert len(list((finished.cache / "personalize").rglob("key.json"))) == 4
    assert len(list((finished.cache / "generate").rglob("key.json"))) == 4
    assert len(list((finished.cache / "release").rglob("key.json"))) == 2 * len(STRENGTHS)


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": (1,)},
        {"lora": {"steps": 5}},
        {"sampling": {"guidance": 1.5}},
        {"prompts": ("a photo of sks person, dark",)},
    ],
)
def test_what_changes_the_images_is_in_the_key(finished: Finished, tmp_path: Path, change: dict[str, Any]) -> None:
    config = make_config(finished.config.model_dump() | change | {"subjects": 1, "strengths": (1.0,)})
    base = load_base(str(finished.base))
    lora, sampling = config.training_settings(base.recipe), config.sampling_settings(base.recipe)
    stages = CellStages(base, TinyORL().load(), Store(finished.cache), lora, sampling, config.prompts, 2)
    cells = [Cell(stages.data.subjects[0], defense, config.seeds[0]) for defense in config.plan()]
    assert not any(stages.is_cached(cell) for cell in cells)


def test_another_seed_gives_other_images(finished: Finished, tmp_path: Path) -> None:
    other = finished.again(tmp_path / "out", seeds=(0, 1), subjects=1, strengths=(1.0,))
    images = other.table("images")
    assert set(images["seed"]) == {0, 1} and not images["image"].duplicated().any()
    run = RunFolder.open(other.out)
    own = images[(images["defense"] == "generic") & (images["index"] == 0)]
    pictures = [run.picture(path) for path in own.sort_values("seed")["image"]]
    assert not np.array_equal(pictures[0], pictures[2])  # type: ignore[arg-type]


# ---- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_failing_cell_is_a_record(finished: Finished, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = make_config(finished.config.model_dump() | {"defense_options": {"fails": "s30"}})
    assert pipeline.run(config, tmp_path / "out", finished.cache) == len(STRENGTHS)
    run = RunFolder.open(tmp_path / "out")
    assert len(run.failed) == len(STRENGTHS)
    assert set(run.failed["defense"]) == {"echo"} and set(run.failed["subject"]) == {"s30"}
    assert set(run.failed["error"]) == {"defense 'echo': release failed: RuntimeError: no luck with s30"}
    assert "Traceback" in caplog.text and "second line" in caplog.text
    assert (run.cells["status"] == "ok").sum() == 4 + len(STRENGTHS)
    echo = run.summary[run.summary["defense"] == "echo"]
    assert set(echo["missing"]) == {1} and set(run.summary[run.summary["defense"] == "none"]["missing"]) == {0}
    assert not ((run.probes["defense"] == "echo") & (run.probes["subject"] == "s30")).any()
    psr = echo[(echo["metric"] == "r1u") & (echo["policy"] == "headline") & (echo["attacker"] == "coarse")]
    assert set(psr["subjects"]) == {1}


def test_all_cells_of_a_defense_may_fail(finished: Finished, tmp_path: Path) -> None:
    changes = {"defense_options": {"fails": "s29"}, "subjects": 1}
    config = make_config(finished.config.model_dump() | changes)
    assert pipeline.run(config, tmp_path / "out", finished.cache) == len(STRENGTHS)
    write_outputs(tmp_path / "out")


def test_a_full_disk_stops_the_run(finished: Finished, tmp_path: Path) -> None:
    config = make_config(finished.config.model_dump() | {"defense_options": {"full_disk": True}})
    with pytest.raises(OSError, match="No space left"):
        pipeline.run(config, tmp_path / "out", finished.cache)
    assert not (tmp_path / "out" / "summary.parquet").exists()
    assert list((finished.cache / "tmp").iterdir()) == []


def test_a_killed_run_is_resumed(finished: Finished, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parent / "lab_plugins.py"), "run", "--dataset", "tiny-orl"]
    command += ["--base", str(finished.base), "--defense", "echo", "--subjects", "2", "--images-per-prompt", "2"]
    command += [x for s in STRENGTHS for x in ("--strength", str(s))] + ["--attacker", "coarse", "--attacker", "fine"]
    # The same number of threads as here: sums are taken in another order with another number.
    threads = str(torch.get_num_threads())
    command += ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--threads", threads]
    images = tmp_path / "cache" / "release"
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list(images.glob("*/*/key.json")):
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    done = len(list(images.glob("*/*/key.json")))
    assert done < 2 * len(STRENGTHS) and not (tmp_path / "out" / "summary.parquet").exists()
    other = finished.again(tmp_path / "out", tmp_path / "cache")
    assert other.table("cells")["cached"].sum() == 4 + done  # the anchors were first
    pd.testing.assert_frame_equal(other.table("summary"), finished.table("summary"))


def test_another_runs_folder_is_refused(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    finished.again(out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    nothing_computed(monkeypatch)
    with pytest.raises(UserError, match=r"holds another run \(.*seeds.*\): give another --out, or remove that folder"):
        finished.again(out, seeds=(3,))
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    (out / "config.json").write_text((out / "config.json").read_text().replace(f'"schema": {SCHEMA}', '"schema": 99'))
    with pytest.raises(UserError, match=rf"schema version 99, this one writes {SCHEMA}: give another --out, or remove"):
        finished.again(out)
    (out / "config.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        finished.again(out)


# ---- figures ----------------------------------------------------------------------------------------------------------


def row(summary: pd.DataFrame, **where: Any) -> pd.Series:
    chosen = summary
    for key, value in where.items():
        chosen = chosen[chosen[key].isna() if value is None else chosen[key] == value]
    assert len(chosen) == 1, (where, len(chosen))
    return chosen.iloc[0]


def test_what_was_posted_is_what_is_linked(finished: Finished) -> None:
    """Own photos are linked, another person's are not, a blank image is not acquired."""
    probes = finished.table("probes")
    own = probes[(probes["defense"] == "echo") & (probes["strength"] == 0)]
    blank = own["image"].str.endswith("03.png")
    assert (own["acquired"] == ~blank).all()
    assert (own["rank"][~blank] == 1).mean() > 0.8 and (own["rank"][blank] == 0).all()
    assert own["mated"][blank].isna().all() and not own["match_1e-2"][blank].any()
    others = probes[(probes["defense"] == "echo") & (probes["strength"] == 1)]
    assert (others["rank"] != 1).all() and others["acquired"].sum() == (~blank).sum()
    assert (others["nonmated"] > others["mated"])[others["acquired"]].all()


@pytest.mark.parametrize("condition", [("echo", 0.0), ("echo", 0.5), ("echo", 1.0), ("none", None), ("generic", None)])
def test_summary_equals_the_probes(finished: Finished, condition: tuple[str, float | None]) -> None:
    """Every rate once more, from the table of probes, with pandas only."""
    defense, strength = condition
    summary, calibration = finished.table("summary"), finished.table("calibration")
    probes = finished.table("probes")
    probes = probes[probes["defense"] == defense]
    probes = probes[probes["strength"].isna() if strength is None else probes["strength"] == strength]
    identities = len(SUBJECTS) + 28
    for attacker, seen in probes.groupby("attacker"):
        where = {"defense": defense, "strength": strength, "attacker": attacker}
        got = seen["acquired"]
        assert row(summary, **where, metric="fta")["value"] == pytest.approx(1 - got.mean())
        if got.any():
            assert row(summary, **where, metric="ism")["value"] == pytest.approx(seen["mated"].mean())
        far = calibration[calibration["attacker"] == attacker].set_index("far")["achieved_far"]
        rates = {
            ("rank1_hit", "r1u"): (seen["rank"] == 1, 1 / identities),
            ("rank5_hit", "r5u"): (seen["rank"].between(1, 5), 5 / identities),
            ("match_rate@1e-2", "psr@1e-2"): (seen["match_1e-2"], far[0.01]),
            ("match_rate@1e-3", "psr@1e-3"): (seen["match_1e-3"], far[0.001]),
        }
        for (rate, protection), (hit, chance) in rates.items():
            values = {
                "acquired": hit[got].mean() if got.any() else np.nan,
                "miss": (hit & got).mean(),
                "chance": (hit & got).mean() + chance * (~got).mean(),
            }
            values["headline"] = np.nanmax(list(values.values()))  # most linked: least kind to the defense
            for policy, value in values.items():
                assert row(summary, **where, metric=rate, policy=policy)["value"] == pytest.approx(value, nan_ok=True)
                found = row(summary, **where, metric=protection, policy=policy)
                assert found["value"] == pytest.approx(1 - value, nan_ok=True)
                if np.isfinite(found["low"]):
                    assert found["low"] <= found["value"] + 1e-9 and found["value"] <= found["high"] + 1e-9


@pytest.mark.parametrize("hidden", ["", "fine"])
def test_the_worst_case_is_the_strongest_single_attacker(finished: Finished, tmp_path: Path, hidden: str) -> None:
    """By name; the union counts an image that any attacker links. Without anchors, as nobody links this base undefended."""
    options = {"defense_options": {"surrogate": hidden}} if hidden else {}
    run = finished.again(tmp_path / "out", anchors=False, **options)
    summary, probes = run.table("summary"), run.table("probes")
    white = probes["threat"] == "white-box"
    assert (white == ((probes["defense"] == "echo") & (probes["attacker"] == hidden))).all()
    for strength in STRENGTHS:
        where = {"defense": "echo", "strength": strength, "metric": "r1u"}
        for policy in ("acquired", "miss", "chance", "headline"):
            single = {a: row(summary, **where, attacker=a, policy=policy) for a in ("coarse", "fine")}
            worst = row(summary, **where, attacker="worst-case", policy=policy)
            assert worst["value"] == min(one["value"] for one in single.values()), "white-box or not"
            assert single[worst["by"]]["value"] == worst["value"]
            assert worst["low"] <= min(one["low"] for one in single.values()), "simultaneous: never narrower"
            if hidden:
                transfer = row(summary, **where, attacker="worst-case-transfer", policy=policy)
                other = next(a for a in single if a != hidden)
                assert (transfer["by"], transfer["value"], transfer["low"]) == (
                    other,
                    single[other]["value"],
                    single[other]["low"],
                )
        # The union, image by image.
        seen = probes[probes["strength"] == strength]
        linked = (seen["rank"] == 1).groupby(seen["image"]).any()
        got = seen["acquired"].groupby(seen["image"]).any()
        protection = {
            "acquired": 1 - linked[got].mean(),
            "miss": 1 - linked.mean(),
            "chance": 1 - (linked + (~got) / (28 + len(SUBJECTS))).mean(),
        }
        for policy, value in protection.items():
            assert row(summary, **where, attacker="union", policy=policy)["value"] == pytest.approx(value)
        headline = row(summary, **where, attacker="union", policy="headline")["value"]
        assert headline == pytest.approx(protection[most_pessimistic_policy(protection)])  # type: ignore[arg-type]


def test_thresholds_carry_their_error(finished: Finished) -> None:
    """PSR at the ends of the threshold's interval, counted from the probes' scores."""
    calibration, probes, summary = (finished.table(name) for name in ("calibration", "probes", "summary"))
    assert (calibration["threshold_low"] <= calibration["threshold"]).all()
    assert (calibration["threshold"] <= calibration["threshold_high"]).all()
    one = calibration[(calibration["attacker"] == "fine") & (calibration["far"] == 1e-2)].iloc[0]
    seen = probes[(probes["attacker"] == "fine") & (probes["defense"] == "echo") & (probes["strength"] == STRENGTHS[0])]
    where = {"defense": "echo", "strength": STRENGTHS[0], "attacker": "fine", "metric": "psr@1e-2", "policy": "miss"}
    found = row(summary, **where)
    mated = seen["mated"].fillna(-np.inf)
    assert found["threshold_low"] == pytest.approx(1 - (mated >= one["threshold_low"]).mean())
    assert found["threshold_high"] == pytest.approx(1 - (mated >= one["threshold_high"]).mean())
    assert found["threshold_low"] <= found["value"] <= found["threshold_high"]


def test_attackers_that_do_not_link_the_undefended_model_make_no_worst_case(finished: Finished) -> None:
    """This base was trained for seconds: its undefended images look like nobody, so nothing can be concluded."""
    summary = Summary(RunFolder.open(finished.out))
    assert summary.able == [] and not set(WORST_CASES) & set(finished.table("summary")["attacker"])
    assert any("says nothing about protection" in sentence for sentence in headlines(summary))


def test_strength_shows_in_the_headline(finished: Finished) -> None:
    summary = finished.table("summary")
    where = {"defense": "echo", "attacker": "fine", "metric": "psr@1e-2", "policy": "headline"}
    values = [row(summary, **where, strength=s)["value"] for s in STRENGTHS]
    assert values == sorted(values) and values[0] < 0.5 < values[-1]


# ---- the linker -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stages(finished: Finished) -> CellStages:
    base = load_base(str(finished.base))
    return CellStages(base, TinyORL().load(), Store(finished.cache), base.recipe.lora, base.recipe.sampling, (), 1)


@pytest.fixture(scope="module")
def sface(stages: CellStages) -> Linker:
    attacker = ATTACKERS.get("sface")()
    return Linker(attacker, enrol(attacker, stages.data, stages.embed_photos))


def test_enrolled_photos_are_found(sface: Linker, stages: CellStages) -> None:
    """A photo from the gallery, and one that is in nobody's gallery, are both linked to their person at rank 1."""
    assert sface.identities == 28 + len(SUBJECTS)
    for subject in stages.data.subjects:
        decoy = [person.label for person in stages.benches.decoy_people(Cell(subject, GenericModel(), 0))]
        for photos in (subject.enrolment, subject.references):
            seen = sface.link(subject.label, stages.embed_photos(sface.attacker, photos), decoy)
            assert seen.acquired.all() and (seen.rank == 1).all()
            assert seen.nonmated.shape == (len(photos), 27 + len(SUBJECTS))
            assert (seen.mated > seen.nonmated.max(1)).all()
            assert (seen.mated >= sface.thresholds["1e-2"].value).all() and (seen.decoy_rank > 1).all()


def test_the_threshold_is_a_quantile(sface: Linker, stages: CellStages) -> None:
    """Each public photo against every other public person's template, by hand."""
    people = {person.name: person for person in stages.data.public}
    public = {n: stages.embed_photos(sface.attacker, p.photos).vectors for n, p in people.items()}
    again = sface.attacker.embed([photo.image for photo in people["s5"].photos])
    np.testing.assert_allclose(again.vectors, public["s5"], atol=1e-5)
    templates = {name: v.sum(0) / np.linalg.norm(v.sum(0)) for name, v in public.items()}
    scores = [float(v @ templates[b]) for a in public for v in public[a] for b in public if a != b]
    assert len(scores) == len(sface.impostors) == 28 * 4 * 27
    np.testing.assert_allclose(np.sort(scores), np.sort(sface.impostors), atol=1e-5)
    for far, threshold in ((1e-2, sface.thresholds["1e-2"]), (1e-3, sface.thresholds["1e-3"])):
        assert threshold.value == pytest.approx(np.quantile(scores, 1 - far, method="inverted_cdf"), abs=1e-5)
        assert threshold.achieved == pytest.approx((np.array(scores) >= threshold.value).mean(), abs=1e-3)
        assert far - 1 / len(scores) <= threshold.achieved <= far


def test_subjects_do_not_calibrate(sface: Linker, stages: CellStages) -> None:
    assert set(sface.public) == {person.label for person in stages.data.public}
    assert not set(sface.public) & {s.label for s in stages.data.subjects}
