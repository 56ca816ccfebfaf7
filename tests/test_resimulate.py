"""An attacker that runs the defense itself: on embeddings where it is known what the defense did, and in a run."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import lab_plugins
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_adaptive import EACH, SUBJECTS, WIDTH, World, hits
from tiny_base import write_base

from iddmbench.adaptive import links_people, parse, simulation_of
from iddmbench.adaptive.base import unit
from iddmbench.adaptive.posts import Others, Simulation
from iddmbench.adaptive.resimulate import Resimulate, ResimulateOptions
from iddmbench.cells.condition import PlannedCondition
from iddmbench.cells.given import GivenStages
from iddmbench.defense import DEFENSES, configure
from iddmbench.errors import UserError
from iddmbench.linking.adaptive import linkage
from iddmbench.linking.aggregate import members
from iddmbench.linking.score import Scoring
from iddmbench.linking.simulate import attacker_seeds, candidates, check_simulation, cost_findings, simulated_cells
from iddmbench.models.base import open_base
from iddmbench.photos.dataset import DATASETS
from iddmbench.results.headline import headlines
from iddmbench.results.run_folder import RunFolder
from iddmbench.results.summary import Summary
from iddmbench.run import pipeline
from iddmbench.run.config import make_config
from iddmbench.seeds import Seeds
from iddmbench.store.cache import Store

pytestmark = pytest.mark.usefixtures("plugins")
NAME = "resimulate:candidates=3,keys=1:coarse"


def stand_ins(world: World, key: int):
    """A defense that shows somebody else: who, follows from the person and the key."""
    return lambda template, view: unit(np.random.default_rng([key, int(abs(template[0]) * 1e9)]).normal(size=WIDTH))


# ---- on embeddings -----------------------------------------------------------------------------------------------------


def test_a_map_from_person_to_avatar_is_no_defense() -> None:
    """Posts look like nobody enrolled, and like what the attacker's own run of the same defense makes of the person."""
    world = World()
    posted, own = world.posts(stand_ins(world, 1)), world.posts(stand_ins(world, 1))
    assert hits("threshold", posted, world.gallery) < 0.4
    assert hits("resimulate", posted, world.gallery, own=own) == 1


def test_a_secret_key_leaves_a_guess() -> None:
    """Many worlds, as six people are few: the mean is one in the number of candidates."""
    found = []
    for seed in range(40):
        world = World(seed)
        keys = [world.posts(stand_ins(world, key)) for key in (2, 3)]
        found.append(hits("resimulate", world.posts(stand_ins(world, 1)), world.gallery, own=[*chain(*keys)]))
    assert abs(np.mean(found) - 1 / SUBJECTS) < 0.08


def test_several_keys_find_what_all_of_them_leave() -> None:
    """The avatar is a stranger plus a trace of the person: a mean over keys shows the trace, one key does not."""
    weak, strong = [], []
    for seed in range(10):
        world = World(seed)

        def change(key: int, world: World = world):
            stranger = stand_ins(world, key)
            return lambda t, view: unit(stranger(t, view) + 0.6 * t)

        keys = [world.posts(change(key)) for key in range(2, 12)]
        posted = world.posts(change(1))
        weak.append(hits("resimulate", posted, world.gallery, own=keys[0]))
        strong.append(hits("resimulate", posted, world.gallery, own=[*chain(*keys)]))
    assert np.mean(strong) > np.mean(weak) + 0.2


def test_the_tuned_one_removes_what_the_defense_adds() -> None:
    """Semi-informed: large common directions, different in each post, hide the avatars from the plain system."""
    world = World()
    directions = unit(world.rng.normal(size=(3, WIDTH)))
    who = stand_ins(world, 1)

    def change(template: np.ndarray, view: int) -> np.ndarray:
        return who(template, view) + 2 * world.rng.normal(size=(EACH, 3)) @ directions

    posted, own = world.posts(change), world.posts(change)
    plain, tuned = (hits("resimulate", posted, world.gallery, own=own, tuned=tuned) for tuned in (False, True))
    assert tuned > plain + 0.2


def test_who_the_candidates_are() -> None:
    """The target, and the first others: ranks are among these, and so is the guess."""
    world = World()
    everyone = world.posts(lambda t, view: t)
    attacker = Resimulate([world.gallery], ResimulateOptions(candidates=3))
    for posts in everyone:
        scores = attacker.fit(Others.than(posts.subject, everyone, everyone)).scores(posts)
        first = [name for name in world.names[:SUBJECTS] if name != posts.subject][:2]
        assert scores.identities.tolist() == sorted([posts.subject, *first])
        assert linkage(posts.subject, scores, {}, {}).identities == 3
    with pytest.raises(UserError, match="no simulated model of 'p00'"):
        attacker.fit(Others.than("p00", everyone, everyone[1:]))
    lost = [replace(p, views=(replace(p.views[0], acquired=p.views[0].acquired & False),)) for p in everyone]
    scores = attacker.fit(Others.than("p00", everyone, lost)).scores(everyone[0])
    assert not scores.values.any(), "a candidate without a face has no template"


def test_names_and_places() -> None:
    assert simulation_of("resimulate:dlib") == Simulation(8, 2)
    assert simulation_of("resimulate:candidates=all,keys=3:dlib") == Simulation(None, 3)
    assert simulation_of("resimulate:secret=leaked:dlib") == Simulation(8, 1, True)
    assert simulation_of("dlib") is None and simulation_of("finetune:dlib") is None
    how = parse("resimulate:candidates=all,tuned=true:dlib")
    assert how is not None and how.bases == ("dlib",)
    assert Resimulate.write_argument(ResimulateOptions(**how.options)) == "candidates=all,tuned=true"
    assert not links_people("resimulate:dlib") and links_people("finetune:dlib")
    assert all("resimulate:dlib" not in names for names in members(["dlib", "resimulate:dlib"], ()).values())
    for wrong in (1, 0, "some"):
        with pytest.raises(ValueError):
            ResimulateOptions(candidates=wrong)


# ---- the attacker's own models -----------------------------------------------------------------------------------------


def test_the_attacker_s_models() -> None:
    """Other photos, seeds that do not follow from the run's, no photo of the target's own model."""
    data = DATASETS.get("orl")().load()
    tested = data.subjects[:2]
    defense = configure(DEFENSES.get("blur"), {"strength": 1.0})
    condition = PlannedCondition(defense, ())
    simulation = Simulation(4, 2)
    people = candidates(simulation, tested, data.subjects)
    assert [p.name for p in people] == ["s29", "s30", "s31", "s32"]
    assert len(candidates(Simulation(None, 1), tested, data.subjects)) == 12
    assert candidates(Simulation(2, 1), data.subjects, data.subjects) == list(data.subjects), (
        "everybody under test is a target"
    )
    cells = simulated_cells(simulation, condition, 0, people)
    assert len(cells) == 8 and {cell.defense for cell in cells} == {defense}
    for cell, person in zip(cells[::2], people, strict=True):
        photos = {photo.digest for photo in cell.subject.references}
        assert cell.subject.label == person.label and len(photos) == 4
        assert photos <= {p.digest for p in person.enrolment} and not photos & {p.digest for p in person.references}
    assert attacker_seeds(simulation, 0) == attacker_seeds(simulation, 7) and 0 not in attacker_seeds(simulation, 0)
    assert len(set(attacker_seeds(Simulation(8, 16), 0))) == 16
    assert attacker_seeds(Simulation(8, 1, True), 7) == [7], "the control that knows the seed"
    (told,) = cost_findings(["dlib", "resimulate:candidates=4:dlib"], [condition], tested, data.subjects)
    assert told.severity == "fact" and "chance 25.0%" in told.text


class Keyed(lab_plugins.Echo):
    """Posts photos of somebody whom its seed draws, among those whom nobody tests."""

    name = "keyed-echo"

    def release(self, images, bench):
        person = int(bench.seeds.child("key").numpy().integers(1, 29))
        return np.stack([lab_plugins.square(person, 1 + i % 10) for i in range(len(images))])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def options(base: Path, **changes) -> dict:
    given = {"dataset": "tiny-orl", "subjects": 3, "base": str(base), "strengths": (0.0,), "images_per_prompt": 2}
    return given | {"attackers": ("coarse", NAME), "anchors": False, "defenses": ("echo",)} | changes


def test_in_a_run(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`echo` posts the person, whatever its seed; `keyed-echo` somebody whom it draws, another one for the attacker."""
    monkeypatch.setitem(DEFENSES._added, Keyed.name, Keyed)  # type: ignore[attr-defined]
    config = make_config(options(base, defenses=("echo", "keyed-echo")))
    seen: list[str] = []
    progress = pipeline.Progress(cell=lambda name, cached: seen.append(name), start=lambda n: seen.append(str(n)))
    assert pipeline.run(config, tmp_path / "out", tmp_path / "cache", progress=progress) == 0
    assert seen[0] == "12" and sum("attacker's own" in name for name in seen) == 6
    run = RunFolder.open(tmp_path / "out")
    told = pd.read_parquet(tmp_path / "out" / "premise.parquet").set_index("kind")["text"]["simulated"]
    assert "trains 6 models of its own beside the run's 6" in told and "chance 33.3%" in told
    probes = run.probes[run.probes["attacker"] == NAME]
    shown = probes[probes["acquired"]].groupby("defense")["rank"].apply(lambda r: (r == 1).mean())
    assert shown["echo"] == 1
    people = [
        Seeds(s).child("defense", name, "key")
        for s in (0, *attacker_seeds(Simulation(3, 1), 0))
        for name in lab_plugins.SUBJECTS
    ]
    drawn = [int(seeds.numpy().integers(1, 29)) for seeds in people]
    assert all(a != b for a, b in zip(drawn[:3], drawn[3:], strict=True)), "the keys differ"
    assert shown["keyed-echo"] < 1
    sentences = " ".join(headlines(Summary(run)))
    assert "by re-simulation" in sentences and "chance 33 %" in sentences
    # Nothing is trained again, and nobody else's figures change.
    seen.clear()
    assert pipeline.run(config, tmp_path / "out", tmp_path / "cache") == 0
    alone = make_config(options(base, attackers=("coarse",)))
    assert pipeline.run(alone, tmp_path / "alone", tmp_path / "cache") == 0
    keys = ["defense", "strength", "attacker", "metric", "policy"]
    before = RunFolder.open(tmp_path / "alone").summary.set_index(keys)
    after = run.summary.set_index(keys)
    pd.testing.assert_frame_equal(after.loc[before.index], before)


def test_a_model_of_its_own_that_fails(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures for that attacker, and all figures of the others."""

    class Fragile(lab_plugins.Echo):
        name = "fragile"

        def release(self, images, bench):
            if bench.seeds.root != 0:
                raise RuntimeError("not with this seed")
            return super().release(images, bench)

    monkeypatch.setitem(DEFENSES._added, Fragile.name, Fragile)  # type: ignore[attr-defined]
    assert pipeline.run(make_config(options(base, defenses=("fragile",))), tmp_path / "out", tmp_path / "cache") == 0
    assert set(RunFolder.open(tmp_path / "out").probes["attacker"]) == {"coarse"}


def test_what_can_t_be_run_again_is_refused(base: Path, tmp_path: Path) -> None:
    """Photos that somebody protected, and images that were made elsewhere."""
    (tmp_path / "s29").mkdir()
    Image.fromarray(lab_plugins.square(29, 1)).save(tmp_path / "s29" / "1.png")
    condition = PlannedCondition(configure(DEFENSES.get("protected-photos"), {"folder": str(tmp_path)}), ())
    with pytest.raises(UserError, match=r"runs the defense on other photos, which 'protected-photos' does not allow"):
        check_simulation(["coarse", NAME], [condition])
    check_simulation(["coarse"], [condition])
    check_simulation([NAME], [PlannedCondition(configure(DEFENSES.get("iddm"), {}), ())])
    model = open_base(str(base))
    parts = (DATASETS.get("tiny-orl")().load(), Store(tmp_path), model.recipe.lora, model.recipe.sampling, (), 1)
    with pytest.raises(UserError, match="runs the defense itself, which can't be done for images made elsewhere"):
        Scoring.of(GivenStages(lambda cell: np.zeros((1, 8, 8, 3), np.uint8), model, *parts), [NAME], [])
