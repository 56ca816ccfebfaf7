"""The shared pieces of the perturbation defenses, against independent computations, and what each defense adds to them."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_defenses import SHORT
from tiny_base import same, state, write_base
from torch.nn import functional as F

from iddmbench.cells.bench import load_surrogate
from iddmbench.datasets.orl import ORL
from iddmbench.defense import DEFENSES, Workbench, configure
from iddmbench.defenses.advdm import AdvDM
from iddmbench.defenses.anti_dreambooth import ASPL, FSMG, targeted_loss
from iddmbench.defenses.caat import CAAT, cross_attention
from iddmbench.defenses.cloak import Cloak
from iddmbench.defenses.metacloak import MetaCloak
from iddmbench.defenses.mist import Mist
from iddmbench.defenses.photoguard import PhotoGuard
from iddmbench.defenses.simac import SimAC
from iddmbench.errors import UserError
from iddmbench.faces.detect import YuNet
from iddmbench.models.base import BaseModel, load_base
from iddmbench.perturb.defense import Perturbation
from iddmbench.perturb.pgd import ascend, random_start, step, to_bytes, to_signed
from iddmbench.perturb.target import pattern, target_image
from iddmbench.perturb.transforms import random_blur, random_flip, random_resize
from iddmbench.perturb.victim import Training, Victim
from iddmbench.photos.references import crop_references
from iddmbench.seeds import Seeds

NAMES = [n for n in DEFENSES.names() if issubclass(DEFENSES.get(n), Perturbation)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """It knows gray photos only and predicts velocity."""
    return load_base(str(write_base(tmp_path_factory.mktemp("gray"))))


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """Stable Diffusion's defaults: colour, the noise as target, prompts of its own domain."""
    return load_base(str(write_base(tmp_path_factory.mktemp("colour"), prediction="epsilon", recipe=None)))


@pytest.fixture(scope="module")
def photos(base: BaseModel) -> np.ndarray:
    return crop_references(ORL().load().subjects[0], base, YuNet())[:2]


def bench_of(base: BaseModel, **changes: Any) -> Workbench:
    public = {person.name: person for person in ORL().load().public}
    parts: dict[str, Any] = {
        "base": base,
        "lora": base.recipe.lora,
        "class_latents": torch.randn(2, 4, 32, 32, generator=Seeds(1).torch()),
        "seeds": Seeds(0).child("defense", "s29"),
        "detector": YuNet(),
        "surrogate": lambda name: load_surrogate(name, "cpu"),
        "decoys": [public[name].photos[0].image for name in ("s3", "s11", "s20")],
    }
    return Workbench(**{**parts, **changes})


@pytest.fixture
def bench(base: BaseModel) -> Workbench:
    return bench_of(base)


@pytest.fixture
def victim(base: BaseModel) -> Victim:
    return Victim(base, [base.recipe.prompts.instance] * 2, torch.randn(2, 4, 32, 32, generator=Seeds(1).torch()))


# ---- shared pieces --------------------------------------------------------------------------------------------------


def test_a_pgd_step_is_the_papers() -> None:
    rng = np.random.default_rng(0)
    clean, x, gradient = (rng.uniform(-1, 1, (2, 3, 5, 5)) for _ in range(3))
    x = clean + 0.03 * x
    wanted = np.clip(np.clip(x + 0.02 * np.sign(gradient), clean - 0.04, clean + 0.04), -1, 1)
    found = step(torch.tensor(x), torch.tensor(clean), torch.tensor(gradient), alpha=0.02, eps=0.04)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-12)


def test_ascend_climbs_and_stays_in_the_ball() -> None:
    clean = torch.linspace(-1, 1, 48).reshape(1, 3, 4, 4)
    x = ascend(clean, clean, lambda x: (x * 3).sum(), steps=5, alpha=0.01, eps=0.03)
    torch.testing.assert_close(x, (clean + 0.03).clamp(-1, 1))
    sizes: list[int] = []
    ascend(clean, clean, lambda x: -x.sum(), 3, lambda i: sizes.append(i) or 0.01, 1.0)  # type: ignore[func-returns-value]
    assert sizes == [0, 1, 2]


@pytest.mark.parametrize(
    "objective", [lambda x: x.sum() / 0, lambda x: x.sum() * float("nan"), lambda x: x.sqrt().sum()]
)
def test_a_loss_that_is_not_finite_stops(objective: Any) -> None:
    clean = torch.zeros(1, 3, 4, 4)
    with pytest.raises(FloatingPointError, match="perturbation diverged at PGD step 0: loss is"):
        ascend(clean, clean, objective, 2, 0.01, 0.05)


@pytest.mark.parametrize("eps", [0.004, 0.05, 16 / 255, 22 / 255])
def test_the_budget_holds_on_the_saved_bytes(eps: float) -> None:
    clean = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    x = random_start(to_signed(clean, False, torch.device("cpu")), 10 * eps, torch.Generator().manual_seed(0))
    change = np.abs(to_bytes(x, clean, eps).astype(int) - clean)
    assert change.max() == int(127.5 * eps + 1e-6)  # levels of 255; the ball is as large as the file can hold


def test_photos_survive_the_way_through_signed_values(photos: np.ndarray) -> None:
    device = torch.device("cpu")
    assert np.array_equal(to_bytes(to_signed(photos, False, device), photos, 0.0), photos)
    assert to_signed(photos, True, device).shape == (2, 1, 64, 64)


def test_transforms_against_opencv_and_their_ranges() -> None:
    import cv2

    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(random_flip(x, 1.0, generator), x.flip(3)) and torch.equal(random_flip(x, 0.0, generator), x)
    blurred = random_blur(x, 5, (1.5, 1.5), generator)[0].permute(1, 2, 0).numpy()
    wanted = cv2.GaussianBlur(x[0].permute(1, 2, 0).numpy(), (5, 5), 1.5, borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(blurred, wanted, atol=1e-5)
    torch.testing.assert_close(random_resize(x, 1.0, generator), x)
    assert random_resize(x, 0.5, generator).shape == x.shape


def test_the_victims_loss_against_its_definition(victim: Victim, photos: np.ndarray) -> None:
    """Eq. 1 of DreamBooth, written out with the schedule's own coefficients."""
    x = to_signed(photos, True, torch.device("cpu"))
    found = victim.loss(x, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    latents = victim.base.vae.encode(x.expand(-1, 3, -1, -1)).latent_dist.mean * 2.0
    noise = torch.randn(latents.shape, generator=generator)
    t = torch.randint(0, 1000, (2,), generator=generator)
    alphas = victim.base.scheduler.alphas_cumprod[t][:, None, None, None]
    text = victim.text_encoder(victim.tokens)[0]
    predicted = victim.unet(alphas.sqrt() * latents + (1 - alphas).sqrt() * noise, t, text).sample
    velocity = alphas.sqrt() * noise - (1 - alphas).sqrt() * latents
    torch.testing.assert_close(found, F.mse_loss(predicted, velocity))


def test_a_victim_trains_alone(victim: Victim, photos: np.ndarray) -> None:
    """Its copy and the base stay as they are, and the same draws give the same weights."""
    before, x = state(victim.base), to_signed(photos, True, torch.device("cpu"))
    twins = [victim.copy(), victim.copy()]
    for twin in twins:
        twin.train(x, twin.texts, 3, Training(rate=1e-3), torch.Generator().manual_seed(0))
    assert same(state(victim.base), before) and twins[0].done == 3 and victim.done == 0
    for part in ("unet", "text_encoder"):
        one, two, own = (getattr(v, part).state_dict() for v in (*twins, victim))
        assert same(one, two) and not same(one, own)
    frozen = victim.copy()
    frozen.train(x, frozen.texts, 1, Training(rate=1e-3, text_encoder=False), torch.Generator().manual_seed(0))
    assert same(frozen.text_encoder.state_dict(), victim.text_encoder.state_dict())
    half = victim.copy()
    half.train(x, half.texts, 1, Training(rate=1e-3, half=True), torch.Generator().manual_seed(0))
    assert all(torch.equal(p, p.bfloat16().float()) for p in half.unet.parameters())


def test_training_fits_the_photos(victim: Victim, photos: np.ndarray) -> None:
    x = to_signed(photos, True, torch.device("cpu"))
    before = np.mean([victim.loss(x, Seeds(k).torch()).item() for k in range(8)])
    victim.train(x, victim.texts, 60, Training(rate=2e-3, prior=0.0), torch.Generator().manual_seed(0))
    assert np.mean([victim.loss(x, Seeds(k).torch()).item() for k in range(8)]) < 0.95 * before


def test_target_images(tmp_path: Path) -> None:
    shown = pattern(64)
    assert shown.shape == (64, 64, 3) and set(np.unique(shown)) == {0, 255} and 0.4 < (shown > 0).mean() < 0.6
    Image.new("RGBA", (90, 40), (200, 10, 20, 255)).save(tmp_path / "a.png")
    assert (target_image(str(tmp_path / "a.png"), 32) == [200, 10, 20]).all()
    (tmp_path / "b.png").write_text("no image")
    for name in ("b.png", "absent.png"):
        with pytest.raises(UserError, match="target="):
            target_image(str(tmp_path / name), 32)


# ---- every perturbation defense -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_its_budget_on_one_photo(name: str, base: BaseModel, photos: np.ndarray) -> None:
    """On a gray base what is added is gray; half the strength is half the budget."""
    for strength in (0.5, 1.0):
        defense: Any = configure(DEFENSES.get(name), {**SHORT[name], "strength": strength, "alpha": 0.1})
        change = defense.protect(photos[:1], bench_of(base)).astype(int) - photos[:1]
        assert 0 < np.abs(change).max() <= strength * defense.eps * 127.5 + 1e-6
        assert (change == change[..., :1]).all()


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_on_a_base_with_stable_diffusions_defaults(name: str, colour: BaseModel, photos: np.ndarray) -> None:
    defense: Any = configure(DEFENSES.get(name), SHORT[name])
    protected = defense.protect(photos, bench_of(colour))
    change = protected.astype(int) - photos
    assert 0 < np.abs(change).max() <= defense.eps * 127.5 + 1e-6 and not (change == change[..., :1]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_base_that_gives_nan_stops_it(name: str, tmp_path: Path, photos: np.ndarray) -> None:
    broken = load_base(str(write_base(tmp_path)))
    with torch.no_grad():
        next(broken.vae.encoder.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match=f"defense '{name}': protect failed: FloatingPointError: .*diverged"):
        configure(DEFENSES.get(name), SHORT[name]).protect(photos, bench_of(broken))


@pytest.mark.parametrize("name", DEFENSES.names())
def test_presets_are_valid_and_leave_the_budget_alone(name: str) -> None:
    cls = DEFENSES.get(name)
    for preset, options in cls.presets.items():
        assert preset != "paper" and not {"eps", "strength"} & set(options)
        configure(cls, options)


# ---- Anti-DreamBooth ------------------------------------------------------------------------------------------------


def test_aspl_is_the_papers_alternation(bench: Workbench, photos: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy trains on the clean photos, the attack sees the copy, the victim trains on what came out."""
    events: list[tuple[str, int, float]] = []
    plain_train, plain_loss = Victim.train, Victim.loss

    def train(self: Victim, x: torch.Tensor, *rest: Any) -> None:
        events.append(("train", id(self), x.sum().item()))
        plain_train(self, x, *rest)

    def loss(self: Victim, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        events.append(("attack", id(self), x.sum().item()))
        return plain_loss(self, x, generator)

    monkeypatch.setattr(Victim, "train", train)
    monkeypatch.setattr(Victim, "loss", loss)
    ASPL(rounds=2, train_steps=1, steps=2).protect(photos, bench)
    kinds = [kind for kind, _, _ in events]
    assert kinds == ["train", "attack", "attack", "train"] * 2
    copies, victims = {events[0][1], events[4][1]}, {events[3][1], events[7][1]}
    assert events[1][1] == events[0][1] and len(victims) == 1 and not victims & copies
    clean = events[0][2]
    assert events[4][2] == clean and events[3][2] != clean


def test_aspl_trains_on_the_surrogate_set_where_there_is_one(base: BaseModel, photos: np.ndarray) -> None:
    other = photos[:, :, ::-1].copy()
    options = {"rounds": 1, "train_steps": 2, "steps": 2, "learning_rate": 1e-2}
    found = [
        ASPL(**options).protect(photos, bench_of(base, surrogate_photos=s))  # type: ignore[arg-type]
        for s in (photos[:0], photos, other)
    ]
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


def test_clipping_is_what_the_official_variant_lacks(bench: Workbench) -> None:
    assert ASPL().training(bench).clip == 1.0 and not ASPL().training(bench).half
    official = ASPL(variant="official").training(bench)
    assert official.clip == 0.0 and official.half


def test_targeted_loss_at_the_first_timestep(
    victim: Victim, photos: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At t = 0 the released code asks the schedule for t = -1, its noisiest step; ours wants the target itself."""
    x, target = to_signed(photos, True, torch.device("cpu")), torch.randn(1, 4, 32, 32, generator=Seeds(2).torch())
    values = {}
    for t, guard in itertools.product((0, 500), (True, False)):
        monkeypatch.setattr(Victim, "draw_timesteps", lambda self, count, generator, t=t: torch.full((count,), t))
        values[t, guard] = targeted_loss(victim, x, target, torch.Generator().manual_seed(0), guard).item()
    assert values[500, True] == values[500, False] and abs(values[0, True] - values[0, False]) > 1e-3


def test_targeted_pulls_towards_the_target(bench: Workbench, photos: np.ndarray) -> None:
    options: dict[str, Any] = {"train_steps": 1, "steps": 8, "eps": 0.3, "alpha": 0.05}
    plain = FSMG(**options).protect(photos, bench)
    pulled = FSMG(mode="targeted", **options).protect(photos, bench)
    assert not np.array_equal(plain, pulled)


def test_an_ensemble_averages_gradients(base: BaseModel, photos: np.ndarray, tmp_path: Path) -> None:
    again = str(write_base(tmp_path / "again"))
    options: dict[str, Any] = {"train_steps": 0, "steps": 2}
    one = FSMG(**options).protect(photos, bench_of(base))
    two = FSMG(**options, ensemble=again).protect(photos, bench_of(base))
    assert FSMG(ensemble="a,b").ensemble == ("a", "b") and not np.array_equal(one, two)
    with pytest.raises(UserError, match="unknown base model 'absent'"):
        FSMG(**options, ensemble="absent").protect(photos, bench_of(base))


GOLDEN: dict[str, tuple[dict[str, Any], float, list[int]]] = {
    "aspl": (
        {"rounds": 2, "learning_rate": 0.001},
        4.4014,
        [-6, -5, -5, -6, -5, -6, -6, -4, -3, 6, -3, 0, -6, -3, -6, -4],
    ),
    "fsmg": (
        {"train_steps": 4, "steps": 8, "learning_rate": 0.001},
        2.9629,
        [-4, -1, -5, -1, -5, -4, -5, 3, 0, 1, 0, -1, 1, -1, 0, -3],
    ),
    "simac": (
        {"rounds": 1, "learning_rate": 0.001, "selections": 3, "candidates": 2},
        3.0815,
        [-4, -3, -3, -3, -4, -4, -4, -4, -4, 4, -1, -3, -4, -3, -3, -4],
    ),
    "mist": ({"steps": 6}, 8.3083, [7, -13, -16, 1, -7, 0, 6, -16, 0, -16, 7, 16, -10, 9, 10, 16]),
}
"""Options, mean change in levels, and the change on a coarse grid of the first photo."""


@pytest.mark.parametrize("name", GOLDEN)
def test_numbers_stand(name: str, base: BaseModel, photos: np.ndarray) -> None:
    """Held since our updates were found equal to the released code's (docs/defenses.md)."""
    options, mean, grid = GOLDEN[name]
    change = configure(DEFENSES.get(name), options).protect(photos, bench_of(base)).astype(int) - photos
    assert np.abs(change).mean() == pytest.approx(mean, abs=0.05)
    found = change[0, 8::16, 8::16, 0].ravel()
    assert np.mean(found == grid) >= 0.8, found.tolist()  # a rounding may turn the sign of a tiny gradient


# ---- SimAC ----------------------------------------------------------------------------------------------------------


def test_simac_removes_windows_until_few_timesteps_are_left(victim: Victim, photos: np.ndarray) -> None:
    x, defense = to_signed(photos, True, torch.device("cpu")), SimAC(candidates=2, window=100, fewest=500)
    kept = defense.select(victim, x, 0.05, torch.Generator().manual_seed(0))
    assert len(kept) == 2
    for times in kept:
        assert 300 < len(times) <= 500 and len(set(times.tolist())) == len(times)
        edges = np.flatnonzero(np.diff(times.numpy()) > 1)
        gaps = np.diff(times.numpy())[edges] - 1
        assert (gaps >= 200).all()  # each removal takes a window of 2 x 100, or joins another
    everything = SimAC(selections=0).select(victim, x, 0.05, torch.Generator().manual_seed(0))
    assert [len(times) for times in everything] == [1000, 1000]


@pytest.mark.parametrize(("variant", "differs"), [("paper", True), ("official", False)])
def test_simac_feature_term_has_a_gradient_in_the_paper_only(
    variant: Any, differs: bool, victim: Victim, photos: np.ndarray
) -> None:
    x, kept = to_signed(photos, True, torch.device("cpu")), [torch.arange(1000)] * 2
    found = []
    for weight in (0.0, 1e6):
        defense = SimAC(variant=variant, feature_weight=weight, steps=3)
        found.append(defense.attack(victim, x, x, kept, 0.05, torch.Generator().manual_seed(0)))
    assert torch.equal(found[0], found[1]) is not differs


# ---- MetaCloak, CAAT ------------------------------------------------------------------------------------------------


def test_metacloak_saves_victims_along_one_training(bench: Workbench, photos: np.ndarray) -> None:
    x = to_signed(photos, True, torch.device("cpu"))
    pool = MetaCloak(pool_steps=(1, 3), learning_rate=1e-3).pool(x, photos, bench)
    assert [victim.done for victim in pool] == [1, 3]
    assert not same(pool[0].unet.state_dict(), pool[1].unet.state_dict())


def test_metacloak_differentiates_through_its_transforms(victim: Victim) -> None:
    defense = MetaCloak(flip=1.0, blur_kernel=3)
    x = torch.rand(2, 1, 64, 64, requires_grad=True)
    defense.transform(x, torch.Generator().manual_seed(0)).sum().backward()
    assert x.grad is not None and (x.grad > 0).all()


def test_caat_trains_keys_and_values_of_the_cross_attention(bench: Workbench, photos: np.ndarray) -> None:
    victim = Victim(bench.base, [""], torch.zeros(0))
    found = {id(p) for p in cross_attention(victim.unet)}
    names = [n for n, p in victim.unet.named_parameters() if id(p) in found]
    assert names and all("attn2.to_k" in n or "attn2.to_v" in n for n in names)
    slow, fast = (CAAT(steps=4, learning_rate=rate).protect(photos, bench) for rate in (1e-9, 0.5))
    assert not np.array_equal(slow, fast)  # the weights do move, and the photos notice


# ---- AdvDM, Mist, PhotoGuard ----------------------------------------------------------------------------------------


def test_advdm_raises_the_loss(bench: Workbench, photos: np.ndarray) -> None:
    protected = AdvDM(steps=15, eps=0.3, alpha=0.05).protect(photos, bench)
    judge = Victim(bench.base, ["a photo"] * 2, torch.zeros(0))
    losses = [
        np.mean([judge.loss(to_signed(x, True, torch.device("cpu")), Seeds(k).torch()).item() for k in range(8)])
        for x in (photos, protected)
    ]
    assert losses[1] > losses[0]


def test_mists_fused_objective_is_the_sum_of_its_parts(victim: Victim, photos: np.ndarray) -> None:
    x, target = to_signed(photos, True, torch.device("cpu")), torch.zeros(1, 4, 32, 32)
    values = {
        mode: Mist(mode=mode, weight=7.0).objective(victim, x, target, torch.Generator().manual_seed(0)).item()
        for mode in ("fused", "textural", "semantic")
    }
    assert values["fused"] == pytest.approx(7 * values["semantic"] + values["textural"], rel=1e-5)
    assert values["textural"] == pytest.approx(-victim.latents(x).square().sum().item(), rel=1e-5)


def test_mist_and_photoguard_move_latents_to_their_goals(bench: Workbench, photos: np.ndarray) -> None:
    def latents(images: np.ndarray) -> torch.Tensor:
        return bench.encode(images)

    texture, large = latents(pattern(64)[None]), {"steps": 15, "eps": 0.4, "alpha": 0.05}
    before = (latents(photos) - texture).norm()
    assert (latents(Mist(mode="textural", **large).protect(photos, bench)) - texture).norm() < before  # type: ignore[arg-type]
    assert (latents(PhotoGuard(mode="targeted", **large).protect(photos, bench)) - texture).norm() < before  # type: ignore[arg-type]
    assert latents(PhotoGuard(**large).protect(photos, bench)).norm() < latents(photos).norm()  # type: ignore[arg-type]


# ---- outputs --------------------------------------------------------------------------------------------------------


def test_blur_and_pixelate_grow_with_strength(photos: np.ndarray, bench: Workbench) -> None:
    for name in ("blur", "pixelate"):
        detail = [
            np.abs(
                np.diff(configure(DEFENSES.get(name), {"strength": s}).release(photos, bench).astype(int), axis=2)
            ).mean()
            for s in (0.0, 0.3, 0.6, 1.0)
        ]
        assert np.all(np.diff(detail) < 0)
    blocks = configure(DEFENSES.get("pixelate"), {"blocks": 8}).release(photos, bench)
    assert (blocks.reshape(2, 8, 8, 8, 8, 3) == blocks[:, ::8, None, ::8, None]).all()


def test_cloak_lowers_the_cosine_and_leaves_faceless_images(bench: Workbench, photos: np.ndarray) -> None:
    images = np.concatenate((photos, np.full((1, 64, 64, 3), 90, np.uint8)))
    cloak = Cloak(steps=6, alpha=8 / 255)
    released = cloak.release(images, bench)
    assert cloak.surrogates() == ("sface",) and np.array_equal(released[2], images[2])
    assert 0 < np.abs(released.astype(int) - images).max() <= 16
    surrogate = load_surrogate("sface", "cpu")
    matrices = surrogate.prepare(list(photos))
    with torch.no_grad():
        template = F.normalize(surrogate.embed(bench.pixels(photos), matrices).mean(0), dim=0)
        cosines = [
            (surrogate.embed(bench.pixels(x), matrices) @ template).mean().item() for x in (photos, released[:2])
        ]
    assert cosines[1] < cosines[0] - 0.1
    nothing = images[2:]
    assert np.array_equal(cloak.release(nothing, bench), nothing)
    decoy = Cloak(steps=4, alpha=8 / 255, mode="targeted").release(photos, bench)
    wanted = surrogate.template(list(bench.decoys))
    with torch.no_grad():
        near = [(surrogate.embed(bench.pixels(x), matrices) @ wanted).mean().item() for x in (photos, decoy)]
    assert near[1] > near[0]
