"""What every registered defense keeps to, and IDDM's own pieces."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from iddmbench.cells.cell import Cell
from iddmbench.cells.stages import CellStages
from iddmbench.conformance import Skip, title
from iddmbench.conformance.defense import CHECKS, DefenseSubject
from iddmbench.datasets.orl import ORL
from iddmbench.defense import DEFENSES, Defense, ExtraPhotos, Workbench, configure
from iddmbench.defenses.iddm import IDDM, Decoupling, jittered
from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel, open_base
from iddmbench.personalize.trainer import Trainer
from iddmbench.results.metric_info import JUDGE
from iddmbench.seeds import Seeds
from iddmbench.store.cache import Store

SHORT: dict[str, dict[str, Any]] = {
    "iddm": {"rounds": 2, "data_steps": 2},
    "iddm-keyed": {"rounds": 2, "data_steps": 2},
    "fsmg": {"train_steps": 2, "steps": 2},
    "aspl": {"rounds": 2, "train_steps": 1, "steps": 2},
    "simac": {"rounds": 1, "train_steps": 1, "steps": 2, "selections": 2, "candidates": 2},
    "metacloak": {"pool_steps": (1, 2), "trials": 1, "turns": 1, "steps": 2, "advance": 1},
    "caat": {"steps": 3},
    "advdm": {"steps": 3},
    "mist": {"steps": 3},
    "photoguard": {"steps": 3},
    "anti-diffusion": {"steps": 2, "rounds": 1, "prompt_steps": 1, "train_steps": 1},
    "apl": {"steps": 2, "images": 1, "people": "a: b", "generic": "c"},
    "apdm": {"rounds": 1, "steps": 2, "class_images": 2},
    "lowkey": {"steps": 2, "surrogate": "sface"},
    "cloak": {"steps": 2},
}
"""Options that make a defense quick; one that is not named here runs as it is."""

NAMES = [name for name in DEFENSES.names() if name not in ("protected-photos", "control-alike")]
"""The first needs photos of its own: test_protected_photos.py; the second the file of faceres: test_controls.py."""


def build(name: str, **options: Any) -> Defense:
    return configure(DEFENSES.get(name), {**SHORT.get(name, {}), **options})


@pytest.fixture(scope="module", params=NAMES)
def subject(request: pytest.FixtureRequest) -> DefenseSubject:
    return DefenseSubject(DEFENSES.get(request.param), request.param, SHORT.get(request.param))


@pytest.mark.parametrize("check", CHECKS, ids=title)
def test_conformance(check: Callable[[DefenseSubject], None], subject: DefenseSubject) -> None:
    """What `iddmbench check defense NAME` runs."""
    try:
        check(subject)
    except Skip as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("name", NAMES)
def test_options_say_what_is_wrong(name: str) -> None:
    cls = DEFENSES.get(name)
    with pytest.raises(UserError, match=rf"defense '{name}' has no option 'strenght': did you mean 'strength'\?"):
        configure(cls, {"strenght": 1})
    for value in (-0.01, 1.5, "much", float("nan")):
        with pytest.raises(UserError, match=f"defense '{name}': strength="):
            configure(cls, {"strength": value})


def test_the_anchors(references: np.ndarray, bench: Workbench) -> None:
    assert build("generic").personalize(references, bench).model.weights is None
    assert build("none").personalize(references, bench).model.weights
    assert build("none").anchor and build("generic").anchor


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
def test_random_noise_stays_in_its_budget(strength: float, bench: Workbench) -> None:
    """On the 8-bit image, at both ends of the range too."""
    photos = np.stack([np.full((64, 64, 3), level, np.uint8) for level in (0, 3, 128, 252, 255)])
    for eps in (16 / 255, 0.011, 0.2):
        noisy = build("random-noise", strength=strength, eps=eps).protect(photos, bench)
        change = noisy.astype(int) - photos
        assert np.abs(change).max() <= 255 * eps * strength
        assert np.abs(change[2]).max() >= int(255 * eps * strength) - 1  # and the budget is used
    assert abs(change[2].mean()) < 0.1 * max(1, np.abs(change).max())


def test_random_noise_grows_with_strength(references: np.ndarray, bench: Workbench) -> None:
    sizes = []
    for strength in (0.2, 0.6, 1.0):
        noisy = build("random-noise", strength=strength).protect(references, bench)
        sizes.append(np.abs(noisy.astype(int) - references).mean())
    assert 0 < sizes[0] < sizes[1] < sizes[2]


# ---- IDDM -----------------------------------------------------------------------------------------------------------


def decoupling(references: np.ndarray, bench: Workbench, **options: Any) -> Decoupling:
    return Decoupling(IDDM(**options), references, bench)


@pytest.fixture
def trainer(bench: Workbench) -> Iterator[Trainer]:
    with bench.trainer() as trainer:
        yield trainer


@pytest.mark.parametrize("name", NAMES)
def test_a_defense_that_uses_a_utility_network_declares_it(name: str) -> None:
    """And none of ours, nor our base, optimizes the one that judges."""
    cls = DEFENSES.get(name)
    modules = {inspect.getmodule(base) for base in cls.__mro__ if base.__module__.startswith("iddmbench.defenses")}
    source = "".join(inspect.getsource(module) for module in modules if module)
    assert build(name).judges() == (("efficientnet_lite0",) if "EfficientNetLite0(" in source else ())
    assert JUDGE not in build(name).judges() + open_base("micro").recipe.judges and "EfficientNetLite(" not in source


def test_iddm_declares_its_surrogates() -> None:
    assert build("iddm").surrogates() == ("sface", "dlib")
    assert build("iddm", surrogate="sface,dlib").surrogates() == ("sface", "dlib")
    assert build("iddm", surrogate=["dlib"]).surrogates() == ("dlib",)


def test_iddm_rejects_an_unknown_mode() -> None:
    with pytest.raises(UserError, match=r"mode='sideways'.*'untargeted' or 'targeted'"):
        configure(IDDM, {"mode": "sideways"})


def test_iddm_stays_in_its_budget(references: np.ndarray, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """|delta| <= eps after every round, eps growing to strength * eps_max by the end of the suppression stage."""
    bounds, deltas = [], []
    plain = Decoupling.optimize

    def watched(self: Decoupling, delta: torch.Tensor, r: int, trainer: Trainer) -> Any:
        delta, figures = plain(self, delta, r, trainer)
        deltas.append(delta.clone())
        bounds.append(self.eps)
        return delta, figures

    monkeypatch.setattr(Decoupling, "optimize", watched)
    options = {"rounds": 4, "data_steps": 1, "suppress": 0.5, "data_rate": 1.0, "eps": 0.6, "strength": 0.5}
    result = build("iddm", **options).personalize(references, bench)
    assert bounds == pytest.approx([0.3] * 4)
    largest = [delta.abs().max().item() for delta in deltas]
    for size, bound in zip(largest, (0.15, 0.3, 0.3, 0.3), strict=True):
        assert size <= bound + 1e-6
    assert largest[0] == pytest.approx(0.15) and largest[1] == pytest.approx(0.3)  # so large a rate reaches the bound
    assert [row["round"] for row in result.trace] == [0, 1, 2, 3]
    shown = result.images["decoupled references"]
    assert not np.array_equal(shown, references)


def test_iddm_strength_moves_every_part_one_way(references: np.ndarray, bench: Workbench) -> None:
    parts = [decoupling(references, bench, strength=s) for s in (0.1, 0.4, 0.7, 1.0)]
    assert np.all(np.diff([p.eps for p in parts]) > 0)
    assert np.all(np.diff([p.lambda_id for p in parts]) > 0)
    assert np.all(np.diff([p.margin for p in parts]) < 0)
    full, config = parts[-1], IDDM()
    assert (full.eps, full.lambda_id, full.margin) == (config.eps, config.lambda_id, config.margin)


@pytest.mark.parametrize("surrogate", ["sface", "dlib"])
def test_iddm_scale_of_identity(surrogate: str, references: np.ndarray, bench: Workbench) -> None:
    """The clean references have a mean relative cosine of 1, public people of 0, whatever the system's own scale."""
    (target,) = decoupling(references, bench, surrogate=(surrogate,)).targets
    net = target.surrogate
    clean = net.embed(bench.pixels(references), target.matrices).detach()
    assert target.relative(clean @ target.template).mean().item() == pytest.approx(1, abs=1e-4)
    people = torch.stack([net.template([photo]) for photo in bench.decoys])
    assert target.relative(people @ target.template).mean().item() == pytest.approx(0, abs=1e-4)
    assert target.template.norm().item() == pytest.approx(1, abs=1e-5)
    assert target.span > 0


def test_iddm_gradient_reaches_the_latents(references: np.ndarray, bench: Workbench) -> None:
    """Through surrogate, crop and decoder, for every image; checked against a difference quotient."""
    part = decoupling(references, bench, jitter=0.0, margin=-1.0)
    delta = torch.zeros_like(part.clean).requires_grad_(True)
    loss, _ = part.identity(bench.base.decode(part.clean + delta), Seeds(0).torch())
    (gradient,) = torch.autograd.grad(loss, delta)
    assert gradient.abs().amax((1, 2, 3)).min() > 0
    step = 0.02 * gradient / gradient.norm()

    def at(d: torch.Tensor) -> float:
        with torch.no_grad():
            return part.identity(bench.base.decode(part.clean + d), Seeds(0).torch())[0].item()

    slope = (at(step) - at(-step)) / 0.04
    assert slope == pytest.approx(gradient.norm().item(), rel=0.05)


@pytest.mark.parametrize("surrogate", ["sface", "dlib"])
def test_iddm_takes_the_identity_out(
    surrogate: str, references: np.ndarray, bench: Workbench, trainer: Trainer
) -> None:
    """The cosine of the decoupled references to the subject falls, and the attacker itself sees it fall."""
    part = decoupling(references, bench, surrogate=(surrogate,), data_steps=5, lambda_util=0.1, lambda_dm=0.0)
    net, matrices = part.targets[0].surrogate, part.targets[0].matrices

    def relative(images: np.ndarray) -> float:
        with torch.no_grad():
            vectors = net.embed(bench.pixels(images), matrices)
            return part.targets[0].relative(vectors @ part.targets[0].template).mean().item()

    zero = torch.zeros_like(part.clean)
    moved, _ = part.optimize(zero, 4, trainer)
    assert relative(part.images(moved)) < relative(part.images(zero)) - 0.5


def test_iddm_targeted_moves_toward_the_decoy(references: np.ndarray, bench: Workbench, trainer: Trainer) -> None:
    part = decoupling(references, bench, mode="targeted", data_steps=5, lambda_dm=0.0)
    untargeted = decoupling(references, bench, data_steps=5, lambda_dm=0.0)
    target = part.targets[0]
    assert target.decoy is not None and untargeted.targets[0].decoy is None
    expected = target.surrogate.template(list(bench.decoys))
    torch.testing.assert_close(target.decoy, expected)

    def to_decoy(delta: torch.Tensor) -> float:
        with torch.no_grad():
            vectors = target.surrogate.embed(bench.base.decode(part.clean + delta), target.matrices)
            return (vectors @ expected).mean().item()

    zero = torch.zeros_like(part.clean)
    toward, away = (p.optimize(zero, 4, trainer)[0] for p in (part, untargeted))
    assert to_decoy(toward) > to_decoy(zero) + 0.1
    assert to_decoy(toward) > to_decoy(away)


def test_iddm_recovery_restores_what_the_margin_allows(
    references: np.ndarray, bench: Workbench, trainer: Trainer
) -> None:
    """Once the identity is below the margin, the last round brings the images back toward the clean ones."""
    part = decoupling(references, bench, data_steps=4, lambda_dm=0.0)
    start, figures = part.optimize(torch.zeros_like(part.clean), 4, trainer)
    lenient = decoupling(references, bench, data_steps=4, lambda_dm=0.0, margin=max(figures["cosine"] + 0.3, -0.2))

    def distance(delta: torch.Tensor) -> float:
        with torch.no_grad():
            return part._distance(bench.base.decode(part.clean + delta)).item()

    recovered, _ = lenient.optimize(start, 7, trainer)
    assert distance(recovered) < distance(start)


def test_iddm_alternates_with_training(references: np.ndarray, bench: Workbench) -> None:
    """All of the personalization's steps are spent, no more."""
    steps: list[int] = []
    plain = Trainer.train

    def counted(self: Trainer, latents: torch.Tensor, condition: torch.Tensor, count: int) -> float:
        steps.append(count)
        return plain(self, latents, condition, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train", counted)
        build("iddm").personalize(references, bench)
    assert len(steps) == 3 and sum(steps) == bench.lora.steps


def test_jitter_is_what_it_says() -> None:
    matrices = torch.tensor([[[1.0, 0, 3], [0, 1, -2]]]).repeat(200, 1, 1)
    assert torch.equal(jittered(matrices, 0.0, 112, Seeds(0).torch()), matrices)
    moved = jittered(matrices, 0.02, 112, Seeds(0).torch())
    scale = moved[:, 0, 0]
    assert 0.98 <= scale.min() < 0.985 and 1.015 < scale.max() <= 1.02
    # The crop's centre moves by the shift alone.
    centre = torch.linalg.solve(matrices[:, :, :2], 56 - matrices[:, :, 2])
    shift = (moved[:, :, :2] @ centre[:, :, None])[:, :, 0] + moved[:, :, 2] - 56
    assert 2 < shift.abs().max() <= 0.02 * 112 + 1e-3


# ---- what a defense gets ----------------------------------------------------------------------------------------------


class Curious(Defense):
    """Keeps its workbench and asks for a surrogate that it has not declared."""

    name = "curious"
    title = "test"

    def surrogates(self) -> tuple[str, ...]:
        return ("sface",)

    def extra_photos(self) -> tuple[ExtraPhotos, ...]:
        return ("decoys",)


def lab_bench(base: BaseModel, tmp_path: Any, subject: int = 0) -> tuple[CellStages, Workbench]:
    stages = CellStages(base, ORL().load(), Store(tmp_path), base.recipe.lora, base.recipe.sampling, (), 1)
    return stages, stages.bench(Cell(stages.data.subjects[subject], Curious(), 0))


def test_an_undeclared_surrogate_is_refused(base: BaseModel, tmp_path: Any) -> None:
    """Otherwise a white-box result would be labelled transfer."""
    _, bench = lab_bench(base, tmp_path)
    assert bench.surrogate("sface").name == "sface"
    with pytest.raises(UserError, match="'curious' asks for surrogate 'dlib' but does not declare it"):
        bench.surrogate("dlib")


def test_photos_that_are_not_declared_are_refused(base: BaseModel, tmp_path: Any) -> None:
    """Otherwise they would be missing in the keys, and a result would outlive the photos that it was made from."""
    _, bench = lab_bench(base, tmp_path)
    for look in (len, list, lambda photos: photos.shape, lambda photos: photos[0]):
        with pytest.raises(UserError, match="'curious' uses surrogate_photos but does not declare them"):
            look(bench.surrogate_photos)


def test_a_defense_sees_nothing_of_the_linker(base: BaseModel, tmp_path: Any) -> None:
    """No enrolment photo of anybody, and no photo of another subject, is anywhere in a workbench."""
    stages, bench = lab_bench(base, tmp_path)
    subjects = {p.image.tobytes() for s in stages.data.subjects for p in (*s.references, *s.enrolment)}
    assert bench.decoys and not any(photo.tobytes() in subjects for photo in bench.decoys)
    labels = {s.label for s in stages.data.subjects}
    assert not labels & {p.label for p in stages.benches.decoy_people(Cell(stages.data.subjects[0], Curious(), 0))}
    allowed = {"base", "lora", "class_latents", "seeds", "detector", "surrogate", "surrogate_photos", "decoys", "tick"}
    allowed |= {"strangers", "subject", "personalizer"}  # a name, and how the base learns people
    assert bench.subject == stages.data.subjects[0].name
    assert set(vars(bench)) == allowed, "a new field: make sure that it tells nothing of the linker, then add it here"
    # Another subject, another seed: other decoys and other draws.
    _, other = lab_bench(base, tmp_path, 1)
    assert bench.seeds.value() != other.seeds.value()
