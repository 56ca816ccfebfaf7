"""A network that learns to undo a defense on other people: the network, whom it learns from, and a run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lab_plugins import Echo, square
from test_adaptive import EACH, World, embeddings
from tiny_base import write_base

from iddmbench.adaptive import check_name, restoration_of
from iddmbench.adaptive.base import unit
from iddmbench.adaptive.inverse import Inverse, Restored
from iddmbench.adaptive.posts import Others, Posts, Restoration
from iddmbench.attacker import build_attacker
from iddmbench.cells.cell import Cell
from iddmbench.cells.given import GivenStages
from iddmbench.cells.restore import restored_views, training_sets
from iddmbench.defense import Defense
from iddmbench.errors import UserError
from iddmbench.linking.adaptive import AdaptiveLinker
from iddmbench.linking.enrolment import enrol
from iddmbench.linking.linker import Linker
from iddmbench.models.base import open_base
from iddmbench.nets.restorer import Restorer, shrunk, train_restorer
from iddmbench.photos.dataset import DATASETS
from iddmbench.results.findings import read_findings
from iddmbench.results.run_folder import RunFolder
from iddmbench.run import pipeline
from iddmbench.run.config import make_config
from iddmbench.seeds import Seeds
from iddmbench.store.cache import Store

pytestmark = pytest.mark.usefixtures("plugins")
STEPS, WIDTH, SIDE = 100, 16, 32


def distorted(images: np.ndarray) -> np.ndarray:
    """Fainter, and under a grating that is stronger than the face: uint8 [N, H, W, 3]."""
    y, x = np.mgrid[: images.shape[1], : images.shape[2]]
    grating = 128 + 90 * np.sin(2 * np.pi * (x + y) / 16)
    return (0.45 * images + 0.55 * grating[None, :, :, None]).round().clip(0, 255).astype(np.uint8)


def photos(person: int) -> np.ndarray:
    return np.stack([square(person, k) for k in range(7, 11)])


# ---- the network -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> Restorer:
    clean = np.concatenate([photos(person) for person in range(33, 39)])
    pairs = shrunk(distorted(clean), SIDE), shrunk(clean, SIDE)
    return train_restorer(*pairs, STEPS, WIDTH, Seeds(0))


def test_it_undoes_a_distortion_for_other_people(trained: Restorer) -> None:
    clean = photos(30)
    before = np.abs(distorted(clean).astype(float) - clean).mean()
    after = np.abs(np.stack([trained.restore(image) for image in distorted(clean)]).astype(float) - clean).mean()
    assert after < before / 2.5


def test_images_of_any_size_come_back_as_large(trained: Restorer) -> None:
    for shape in ((50, 41, 3), (64, 64, 3), (130, 96, 3)):
        image = np.full(shape, 90, np.uint8)
        restored = trained.restore(image)
        assert restored.shape == shape and restored.dtype == np.uint8
    assert shrunk(np.zeros((0, 4, 4, 3), np.uint8), 32).shape == (0, 3, 32, 32)


def test_before_training_an_image_stays_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8)
    assert np.array_equal(Restorer(4, 32, Seeds(0)).restore(image), image)
    same = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(train_restorer(same, same, 5, 4, Seeds(0)).restore(image), image), "nothing to undo"


def test_the_same_seed_gives_the_same_weights() -> None:
    """Whatever the global generator's state, which stays as it was."""
    generator = torch.Generator().manual_seed(0)
    pair = torch.rand(4, 3, 32, 32, generator=generator), torch.rand(4, 3, 32, 32, generator=generator)
    torch.manual_seed(5)
    first, state = train_restorer(*pair, 3, 4, Seeds(0)).state_dict(), torch.random.get_rng_state()
    torch.manual_seed(5)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(6)
    second, other = (train_restorer(*pair, 3, 4, Seeds(seed)).state_dict() for seed in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


# ---- whom it learns from -----------------------------------------------------------------------------------------------


def test_every_pair_of_people_has_a_network_that_saw_neither() -> None:
    people = [f"p{i}" for i in range(10)]
    sets = training_sets(people, 4)
    assert len(sets) == 4 + 6
    for target in people:
        assert max(len(s) for s in sets.values() if target not in s) >= 7
        for other in people:
            assert any(not {target, other} & s for s in sets.values())
    assert len(training_sets(people[:3], 4)) == 6 and all(
        len(s) in (1, 2) for s in training_sets(people[:3], 4).values()
    )


def test_it_takes_the_network_that_saw_none_but_others() -> None:
    """Restored posts are linked where plain ones are not; a network that saw somebody left out is not used."""
    world = World()
    everyone = world.posts(lambda t, view: world.rng.normal(size=(EACH, len(t))))
    names = [p.subject for p in everyone]
    sets = training_sets(names, 3).values()

    def seen(i: int, people: frozenset[str]) -> np.ndarray:
        return unit(world.templates[i] + 0.2 * world.rng.normal(size=(EACH, world.templates.shape[1])) / len(people))

    whole = [
        replace(p, restored={s: embeddings(seen(i, s)) for s in sets if p.subject not in s})
        for i, p in enumerate(everyone)
    ]
    for posts in whole:
        others = Others.than(posts.subject, whole)
        fitted = Inverse([world.gallery]).fit(others)
        scores = fitted.scores(posts)
        assert (scores.ranks(posts.subject) == 1).all()
        used = max((s for s in posts.restored if s <= {*others.subjects}), key=len)
        assert np.allclose(scores.values, world.gallery.scores(posts.restored[used]).standardized().values)
        assert fitted.held_out is not None and len(fitted.held_out) == len(names) - 1
    with pytest.raises(ValueError, match="was trained on p00"):
        Posts("p00", everyone[0].views, restored={frozenset({"p00"}): everyone[0].views[0]})


def test_where_restoring_links_fewer_of_the_others_it_does_nothing() -> None:
    world = World()
    everyone = world.posts(lambda t, view: t)
    sets = training_sets([p.subject for p in everyone], 3).values()
    noise = {s: embeddings(unit(world.rng.normal(size=(EACH, world.templates.shape[1])))) for s in sets}
    whole = [replace(p, restored={s: v for s, v in noise.items() if p.subject not in s}) for p in everyone]
    scores = Inverse([world.gallery]).fit(Others.than("p00", whole)).scores(whole[0])
    assert np.array_equal(scores.values, world.gallery.scores(whole[0].views[0]).standardized().values)


# ---- with images -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def stages_of(base: Path, store: Path, given: Callable[[Cell], np.ndarray]) -> GivenStages:
    model = open_base(str(base))
    parts = (DATASETS.get("orl")().load(), Store(store), model.recipe.lora, model.recipe.sampling, (), 4)
    return GivenStages(given, model, *parts, prompted=False)


def test_it_links_what_the_plain_system_does_not(base: Path, tmp_path: Path) -> None:
    """Gradients see the grating alone; it goes by what other people's pictures looked like before. Nothing is trained twice."""

    def given(cell: Cell) -> np.ndarray:
        clean = photos(int(cell.subject.name[1:]))
        return clean if isinstance(cell.defense, Undefended) else distorted(clean)

    stages = stages_of(base, tmp_path, given)
    people = stages.data.subjects[:6]
    cells, clean = ([Cell(s, defense, 0) for s in people] for defense in (Echo(), Undefended()))
    linker = Linker(build_attacker("coarse"), enrol(build_attacker("coarse"), stages.data, stages.embed_photos))
    attacker = AdaptiveLinker("inverse:coarse", [linker], stages.base)
    how = Restoration(STEPS, WIDTH, SIDE, 3, 0)
    by_label = {cell.subject.label: cell for cell in clean}
    views = restored_views(stages, how, attacker.attackers[0], cells, by_label)
    plain = [stages.embed(attacker.attackers[0], stages.outputs(cell))[0] for cell in cells]
    posts = [
        Posts(cell.subject.label, (own,), restored=seen) for cell, own, seen in zip(cells, plain, views, strict=True)
    ]
    found = attacker.attack(posts)
    alone = AdaptiveLinker("threshold:coarse", [linker], stages.base).attack([replace(p, restored={}) for p in posts])
    linked, before = (np.mean([(one.rank == 1).mean() for one in several]) for several in (found, alone))
    assert before < 0.2 and linked > before + 0.4
    networks = sorted((tmp_path / "restorer").rglob("*.safetensors"))
    assert len(networks) == 6
    again = restored_views(stages, how, attacker.attackers[0], cells, by_label)
    assert all(
        np.array_equal(a.vectors, b.vectors)
        for p, q in zip(views, again, strict=True)
        for a, b in zip(p.values(), q.values(), strict=True)
    )
    assert sorted((tmp_path / "restorer").rglob("*.safetensors")) == networks


class Undefended(Defense):
    """Tells the clean cells apart."""

    name, title = "undefended-photos", "photos as they are"


def test_without_undefended_images_it_learns_from_references_or_says_so(base: Path, tmp_path: Path) -> None:
    stages = stages_of(base, tmp_path, lambda cell: distorted(photos(int(cell.subject.name[1:]))))
    cells = [Cell(s, Echo(), 0) for s in stages.data.subjects[:3]]
    how, attacker = Restoration(2, 4, 32, 3, 0), build_attacker("coarse")
    views = restored_views(stages, how, attacker, cells, {})
    assert [len(seen) for seen in views] == [3, 3, 3]
    bare = [replace(cell, subject=replace(cell.subject, references=())) for cell in cells]
    with pytest.raises(UserError, match="neither undefended images nor references of s"):
        restored_views(stages, how, attacker, bare, {})


def test_a_run(base: Path, tmp_path: Path) -> None:
    names = ("coarse", "inverse:steps=2,width=4,side=32:coarse", "probe:known=2:coarse")
    options = {"dataset": "tiny-orl", "subjects": 3, "base": str(base), "defenses": ("echo",), "strengths": (0.0,)}
    config = make_config({**options, "attackers": names, "images_per_prompt": 2})
    assert pipeline.run(config, tmp_path / "out", tmp_path / "cache") == 0
    run = RunFolder.open(tmp_path / "out")
    for name in names:
        own = run.summary[(run.summary["attacker"] == name) & (run.summary["metric"] == "r1u")]
        assert {*own["defense"]} == {"none", "generic", "echo"} and len(run.probes[run.probes["attacker"] == name]), (
            name
        )
    (told,) = [f.text for f in read_findings(tmp_path / "out") if "undo the defense" in f.text]
    assert told.startswith(f"{names[1]} trains 12 small networks"), "none of them for the undefended model"
    few = make_config({**options, "attackers": ("coarse", "probe:known=99:coarse")})
    with pytest.raises(UserError, match="knows 99 posts of other prompts"):
        pipeline.run(few, tmp_path / "few", tmp_path / "cache")


def test_names_and_options() -> None:
    assert restoration_of("sface") is None and restoration_of("finetune:sface") is None
    assert restoration_of("inverse:steps=5,seed=3:sface") == Restoration(5, 16, 64, 4, 3)
    wrong = {
        "side=60": "multiple of 8",
        "steps=0": "greater than",
        "depth=2": "no option 'depth'",
        "folds=2": "greater than",
    }
    for option, why in wrong.items():
        with pytest.raises(UserError, match=why):
            check_name(f"inverse:{option}:sface")
    view = Restored(build_attacker("coarse"), Restorer(4, 32, Seeds(0)), "a")
    other = Restored(build_attacker("coarse"), Restorer(4, 32, Seeds(0)), "b")
    assert len({view.fingerprint(), other.fingerprint(), build_attacker("coarse").fingerprint()}) == 3
