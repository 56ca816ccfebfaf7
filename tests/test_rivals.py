"""Anti-Diffusion, APDM, APL and LowKey: their losses against straight transcriptions of the released formulas."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from iddmbench.cells.bench import load_surrogate
from iddmbench.datasets.orl import ORL
from iddmbench.defense import Workbench, configure
from iddmbench.defenses.anti_diffusion import AntiDiffusion, disturbance
from iddmbench.defenses.apdm import APDM, Paths, protective_loss
from iddmbench.defenses.apl import APL, FAMOUS, KNOWN_TO_MICRO, PromptPair
from iddmbench.defenses.lowkey import START, LowKey, away
from iddmbench.errors import UserError
from iddmbench.faces.detect import YuNet
from iddmbench.micro.text import name_word
from iddmbench.models.base import BaseModel
from iddmbench.models.prefix import embed_behind
from iddmbench.personalize.adapter import own_parameters
from iddmbench.personalize.prepared import prepared
from iddmbench.perturb.pgd import to_signed
from iddmbench.perturb.victim import Victim
from iddmbench.photos.references import crop_references
from iddmbench.seeds import Seeds


@pytest.fixture(scope="module")
def photos(base: BaseModel) -> np.ndarray:
    return crop_references(ORL().load().subjects[0], base, YuNet())[:2]


# ---- Anti-Diffusion ---------------------------------------------------------------------------------------------------


class Stored:
    """An attention processor that computes attention by hand, keeping the maps of 16 x 16 places, as the released one does."""

    def __init__(self, half: bool):
        self.maps: list[Tensor] = []
        self.half = half

    def __call__(self, attn: Any, x: Tensor, encoder_hidden_states: Tensor | None = None, **rest: Any) -> Tensor:
        text = x if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (attn.head_to_batch_dim(part) for part in (attn.to_q(x), attn.to_k(text), attn.to_v(text)))
        weights = (torch.einsum("bid,bjd->bij", q, k) * attn.scale).softmax(-1)
        if encoder_hidden_states is not None and weights.shape[1] == 16 * 16:
            self.maps.append(weights[len(weights) // 2 :] if self.half else weights)
        return attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(torch.einsum("bij,bjd->bid", weights, v))))


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_anti_diffusions_loss_is_the_released_one(variant: Any, bench: Workbench, photos: np.ndarray) -> None:
    """For one photo, as the released loop takes them; value and gradient in the pixels."""
    base, half = bench.base, variant == "official"
    x = to_signed(photos[:1], True, torch.device("cpu")).requires_grad_(True)
    text = base.embed_text(["a photo of person"])
    defense, victim = AntiDiffusion(variant=variant), Victim(base, [""], torch.zeros(0))
    value = defense.objective(victim, x, text, torch.Generator().manual_seed(3))
    (gradient,) = torch.autograd.grad(value, x)

    unet, draws, stored = copy.deepcopy(base.unet), torch.Generator().manual_seed(3), Stored(half)
    unet.set_attn_processor({n: stored if "mid" not in n else p for n, p in unet.attn_processors.items()})
    latents = base.vae.encode(x.expand(-1, 3, -1, -1)).latent_dist.mean * base.vae.config.scaling_factor
    noise = torch.randn(latents.shape, generator=draws)
    t = torch.randint(0, 1000, (1,), generator=draws)
    predicted = unet(base.scheduler.add_noise(latents, noise, t), t, text).sample
    maps = torch.cat([m.reshape(1, -1, 256, m.shape[-1]) for m in stored.maps], 1)
    maps = torch.clamp(maps.sum(1) / maps.shape[1] * 100, 0, 1)
    wanted = F.mse_loss(predicted, base.scheduler.get_velocity(latents, noise, t)) - F.mse_loss(
        maps, torch.zeros_like(maps)
    )
    (expected,) = torch.autograd.grad(wanted, x)
    assert len(stored.maps) >= 2 and value.item() == pytest.approx(wanted.item(), rel=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-8)


def test_anti_diffusions_rounds(bench: Workbench, photos: np.ndarray) -> None:
    """The paper's budget holds over all rounds; the released code's ball moves with them, a part of the budget each time."""
    short: dict[str, Any] = {"steps": 2, "rounds": 1, "prompt_steps": 1, "train_steps": 1, "alpha": 0.05, "eps": 0.1}
    largest = {
        variant: np.abs(AntiDiffusion(variant=variant, **short).protect(photos, bench).astype(int) - photos).max()
        for variant in ("paper", "official")
    }
    assert largest["paper"] == 12 and 6 < largest["official"] <= 12


def test_prompt_tuning_lowers_the_loss(bench: Workbench, photos: np.ndarray) -> None:
    victim, defense = Victim(bench.base, ["", ""], torch.zeros(0)), AntiDiffusion(prompt_rate=0.05, prompt_steps=12)
    x, start = to_signed(photos, True, torch.device("cpu")), bench.base.embed_text([""])
    tuned = defense.tune_prompt(victim, x, start, torch.Generator().manual_seed(0))

    def loss(text: Tensor) -> float:
        with torch.no_grad():
            draws = [Seeds(k).torch() for k in range(5)]
            return float(np.mean([defense._view(victim, victim.latents(x), text, d).mean().item() for d in draws]))

    assert tuned.shape == start.shape and loss(tuned) < loss(start)


def test_the_disturbance_wants_the_bases_side(bench: Workbench, photos: np.ndarray) -> None:
    assert disturbance(torch.full((1, 2, 4, 3), 0.005), 100).item() == pytest.approx(0.25)
    assert disturbance(torch.ones(1, 2, 4, 3), 100).item() == 1
    with pytest.raises(UserError, match=r"base '.*' has no cross-attention of 5 x 5 .* set attention to the side"):
        AntiDiffusion(attention=5, prompt_steps=0).protect(photos, bench)


# ---- APDM -------------------------------------------------------------------------------------------------------------


def test_apdm_prefers_generic_images() -> None:
    g, g0, p, p0 = (torch.rand((2, 4, 3, 3), generator=Seeds(k).torch()) for k in range(4))
    difference = ((g - g0) - (p - p0)).numpy()
    elements = np.log1p(np.exp(3 * difference)).mean()
    images = np.log1p(np.exp(3 * difference.mean((1, 2, 3)))).mean()
    assert protective_loss(g, g0, p, p0, 3, elementwise=True).item() == pytest.approx(elements, rel=1e-5)
    assert protective_loss(g, g0, p, p0, 3).item() == pytest.approx(images, rel=1e-5)
    assert protective_loss(g, g, p, p, 3).item() == pytest.approx(np.log(2))
    assert protective_loss(g0, g0, p0 + 1, p0, 3).item() < np.log(2) < protective_loss(g0 + 1, g0, p0, p0, 3).item()


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_apdms_round_is_the_released_one(variant: Any, bench: Workbench, photos: np.ndarray) -> None:
    """Two steps of the personalization path on a copy, and the gradients gathered along it, written out."""
    base, official = bench.base, variant == "official"
    defense = APDM(steps=2, class_images=2, learning_rate=1e-3, beta=2.0, preservation=0.5, variant=variant)
    source = copy.deepcopy(base.unet)
    paths = Paths(defense, bench, photos)
    trained = own_parameters(base.unet)
    own = {name: weight.data for name, weight in trained.items()}
    try:
        for weight in trained.values():
            weight.data = weight.data.clone()
            weight.requires_grad_(True)
        found = paths.round(own, torch.Generator().manual_seed(5))
    finally:
        for name, weight in trained.items():
            weight.data, weight.grad = own[name], None
            weight.requires_grad_(False)

    draws, twin = torch.Generator().manual_seed(5), copy.deepcopy(base.unet).requires_grad_(True)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-3, betas=(0.9, 0.999), weight_decay=0.01, eps=1e-8)
    latents, text = bench.encode(photos), base.embed_text(bench.captions(photos))
    total: dict[str, Tensor] = {}

    def pick(count: int) -> int:
        return int(torch.randint(0, count, (1,), generator=draws))

    def seen(unet: Any, z: Tensor, noise: Tensor, t: Tensor, c: Tensor) -> Tensor:
        predicted = unet(base.scheduler.add_noise(z, noise, t), t, c).sample
        return F.mse_loss(predicted, base.scheduler.get_velocity(z, noise, t), reduction="none")

    def fresh() -> tuple[Tensor, Tensor]:
        return torch.randn(latents[:1].shape, generator=draws), torch.randint(0, 1000, (1,), generator=draws)

    for _ in range(2):
        optimizer.zero_grad()
        i = pick(2)
        noise, t = fresh()
        loss = seen(twin, latents[i : i + 1], noise, t, text[i : i + 1]).mean()
        k = pick(2)
        noise, _ = fresh()
        loss = loss + seen(twin, paths.generic[k : k + 1], noise, t, paths.class_text).mean()
        loss.backward()
        optimizer.step()
        if not official:
            optimizer.zero_grad()
        i, k = pick(2), pick(2)
        noise, t = fresh()
        unsafe, safe, c = latents[i : i + 1], paths.generic[k : k + 1], text[i : i + 1]
        with torch.no_grad():
            before = seen(source, safe, noise, t, c), seen(source, unsafe, noise, t, c)
        now = seen(twin, safe, noise, t, c), seen(twin, unsafe, noise, t, c)
        difference = now[0] - before[0] - now[1] + before[1]
        difference = difference if official else difference.mean()
        loss = (-1 * F.logsigmoid(-1 * 2.0 * difference)).mean()
        k = pick(2)
        noise, t = fresh()
        loss = loss + 0.5 * seen(twin, paths.generic[k : k + 1], noise, t, paths.class_text).mean()
        loss.backward()
        for name, weight in twin.named_parameters():
            assert weight.grad is not None
            total[name] = total.get(name, 0) + weight.grad.clone()
    assert total.keys() == found.keys()
    for name, gradient in total.items():
        torch.testing.assert_close(found[name], gradient, rtol=2e-3, atol=1e-6)


def test_apdm_makes_the_person_hard_to_denoise(bench: Workbench, photos: np.ndarray) -> None:
    """The person's loss grows against that of generic images, on the base itself."""
    defense = APDM(rounds=3, steps=2, class_images=2, learning_rate=1e-2, beta=100.0, preservation=0.0)
    made = defense.prepare(photos, bench)
    assert set(made.replaced) == {f"unet.{name}" for name in own_parameters(bench.base.unet)}
    paths, before = Paths(defense, bench, photos), {n: w.data for n, w in own_parameters(bench.base.unet).items()}
    with torch.no_grad(), prepared(bench.base, made, 1.0):
        losses = [paths.protective_loss(before, Seeds(k).torch()).item() for k in range(5)]
    assert np.mean(losses) < np.log(2) - 0.05


# ---- APL --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_apls_loss_is_the_released_one(guidance: float, bench: Workbench) -> None:
    """Its value and its gradient in the prefix, with the frozen pass of its own that the released script makes."""
    base, pair = bench.base, PromptPair("a photo of sks person", "a photo of person")
    vectors = torch.rand((4, 128), generator=Seeds(1).torch()).requires_grad_(True)
    x = torch.randn((1, 4, 32, 32), generator=Seeds(2).torch())
    value = APL(guidance=guidance).loss(bench, x, pair, vectors, torch.Generator().manual_seed(3))
    (gradient,) = torch.autograd.grad(value, vectors)

    draws = torch.Generator().manual_seed(3)
    noise, t = torch.randn(x.shape, generator=draws), torch.randint(0, 1000, (1,), generator=draws)
    z = base.scheduler.add_noise(x, noise, t)
    with torch.no_grad():
        neutral = base.unet(z, t, base.embed_text([pair.neutral])).sample
        frozen = base.unet(z, t, embed_behind(base, [pair.private], vectors)).sample
    private = base.unet(z, t, embed_behind(base, [pair.private], vectors)).sample
    wanted = F.mse_loss(private, neutral - guidance * (frozen - neutral))
    (expected,) = torch.autograd.grad(wanted, vectors)
    assert value.item() == pytest.approx(wanted.item(), rel=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-9)


def test_apls_pairs() -> None:
    person = APL().pairs()[0]
    assert person.private == "Barack Obama" and len(APL().pairs()) == len(FAMOUS)
    assert APL().prompts(person, "a photo of {}") == PromptPair(
        "a photo of Barack Obama", f"a photo of {person.neutral}"
    )
    assert APL(variant="official").prompts(person, "a photo of {}") == PromptPair("Barack Obama", "")
    assert configure(APL, {"people": "a: b,c: d"}).people == ("a: b", "c: d")
    with pytest.raises(UserError, match="apl: people: 'a' is not 'NAME: DESCRIPTION'"):
        APL(people=("a",)).pairs()
    assert tuple(name_word(person) for person in range(1, 29)) == KNOWN_TO_MICRO


def test_apl_leaves_room_for_the_prompt(bench: Workbench, photos: np.ndarray) -> None:
    with pytest.raises(UserError, match="apl: vectors=31 do not fit the base's prompts of 32 tokens"):
        APL(vectors=31, people=("a: b",), generic=("c",), images=1).prepare(photos[:0], bench)


# ---- LowKey -----------------------------------------------------------------------------------------------------------


def test_lowkeys_objective_is_equation_1() -> None:
    f, g, h = (np.random.default_rng(k).normal(size=(2, 3, 5)) for k in range(3))  # [systems, images, D]
    wanted = []
    for image in range(3):
        total = 0.0
        for system in range(2):
            a, b, c = f[system, image], g[system, image], h[system, image]
            total += (((a - b) ** 2).sum() + ((a - c) ** 2).sum()) / np.sqrt((a**2).sum())
        wanted.append(total / (2 * 2))
    found = away(tuple(torch.from_numpy(part[k]) for part in (f, g, h)) for k in range(2))
    assert found.numpy() == pytest.approx(np.array(wanted))


def test_lowkeys_official_form_is_the_released_loss() -> None:
    """The mean over images, extractors and dimensions of the squared differences, each divided by its clean feature's norm."""
    systems = [tuple(torch.randn(3, 5, generator=Seeds(10 * k + i).torch()) for i in range(3)) for k in range(2)]
    found = torch.stack([part for f, g, h in systems for part in (h, g)], 1)  # [images, 2 systems, D], smoothed first
    clean = torch.repeat_interleave(torch.stack([f for f, _, _ in systems], 1), 2, 1)
    wanted = torch.mean((found - clean) ** 2 / clean.norm(dim=2).unsqueeze(2))
    assert away(systems, averaged=True).mean().item() == pytest.approx(wanted.item(), rel=1e-5)


def test_lowkeys_official_form_starts_at_random(bench: Workbench, photos: np.ndarray) -> None:
    """Within .005 of pixels, 1.3 levels, at strength 1; the same for the same seed."""
    short: dict[str, Any] = {"surrogate": ("sface",), "steps": 1, "alpha": 1e-9, "variant": "official"}
    one, again = (LowKey(**short).release(photos, bench) for _ in range(2))
    assert np.array_equal(one, again) and 0 < np.abs(one.astype(int) - photos).max() <= 1
    assert np.array_equal(LowKey(**{**short, "variant": "paper"}).release(photos, bench), photos)


def test_lowkey_pushes_image_and_smoothed_image_away(bench: Workbench, photos: np.ndarray) -> None:
    """Further with strength, by steps times alpha at most; an image without a face is left alone."""
    images = np.concatenate((photos, np.full((1, 64, 64, 3), 90, np.uint8)))
    system = load_surrogate("sface", "cpu")
    matrices = system.prepare(list(photos))
    cosines, largest = [], []
    with torch.no_grad():
        clean = system.embed(bench.pixels(photos), matrices)
        for strength in (0.3, 1.0):
            options: dict[str, Any] = {"surrogate": ("sface",), "steps": 3, "radius": 1, "sigma": 1.0, "alpha": 0.05}
            with torch.enable_grad():
                released = LowKey(strength=strength, **options).release(images, bench)
            assert np.array_equal(released[2], images[2])
            largest.append(np.abs(released.astype(int) - images).max())
            cosines.append((system.embed(bench.pixels(released[:2]), matrices) * clean).sum(1).mean().item())
    assert 0 < largest[0] <= 0.3 * 3 * 0.05 * 127.5 + 1 and largest[0] < largest[1] <= 3 * 0.05 * 127.5 + 1
    assert 1 > cosines[0] > cosines[1] + 0.05
    assert LowKey().surrogates() == ("sface", "dlib")


# ---- settings ---------------------------------------------------------------------------------------------------------


def test_defaults_are_the_released_scripts_settings() -> None:
    """By file and option of the released code, read there."""
    lowkey = LowKey()  # lowkey_attack.py; in pixels in [0, 1]
    assert (lowkey.steps, lowkey.alpha / 2, lowkey.weight) == (50, 0.0025, 0.05)  # n_iters, lr, c_sim
    assert (2 * lowkey.radius + 1, lowkey.sigma, START / 2) == (7, 3, 0.005)  # kernel_size_gf, sigma_gf, noise_size
    anti = AntiDiffusion()  # Main.py and Scripts/anti-diffusion_demo.sh
    assert (anti.alpha, anti.eps, anti.rounds, anti.steps) == (
        2e-3,
        5e-2,
        5,
        10,
    )  # pgd_alpha, pgd_eps, epoches, pgd_itrs
    assert (anti.learning_rate, anti.train_steps, anti.attention) == (5e-7, 20, 16)  # tunning_steps, attention_size
    assert (anti.prompt_steps, anti.prompt_rate, anti.gain) == (30, 1e-3, 100)  # Defense/antidiffusion.py
    apdm = APDM()  # gen_arguments.py, experiments apdm001 to apdm004; protect.py where that is silent
    assert (apdm.rounds, apdm.steps, apdm.learning_rate) == (800, 20, 5e-6)  # iter, num_inner_iter, lr
    assert (apdm.beta, apdm.prior_weight, apdm.preservation) == (1, 1, 1)  # loss_dpo_beta, prior_loss_weight, in_ppl
    assert apdm.class_images == 200  # num_samples
    apl = APL()  # train.py, dataset_generation.py; the name of the released prefix, APL-v1.1-9999.pt
    assert (apl.vectors, apl.steps, apl.learning_rate, apl.guidance, apl.share) == (10, 10000, 1e-3, 1, 0.5)
    assert apl.images == 100 and apl.templates.count("{}") / len(apl.templates) == 0.5
