"""The keyed defense: whose face the key draws, and what IDDM's newer options do."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from iddmbench.adaptive.base import unit
from iddmbench.attacker import build_attacker
from iddmbench.conformance.defense import workbench
from iddmbench.defense import DEFENSES, Defense, Workbench, configure
from iddmbench.defenses.iddm import IDDM, Decoupling, balanced, diverse
from iddmbench.defenses.iddm_keyed import IDDMKeyed, KeyedDecoupling, mixed
from iddmbench.errors import UserError
from iddmbench.faces.align import crop
from iddmbench.models.base import BaseModel
from iddmbench.personalize.trainer import Trainer
from iddmbench.seeds import Seeds


def decoupling(references: np.ndarray, bench: Workbench, config: Defense) -> Any:
    cls = KeyedDecoupling if isinstance(config, IDDMKeyed) else Decoupling
    return cls(config, references, bench)


# ---- the decoy -----------------------------------------------------------------------------------------------------------


def people(count: int = 28, width: int = 64) -> torch.Tensor:
    """A crowd around a common mean, as embeddings of one system are."""
    generator = Seeds(0).torch()
    return F.normalize(
        torch.randn(width, generator=generator) + torch.randn((count, width), generator=generator), dim=1
    )


def test_a_decoy_is_nobody_and_away_from_the_person() -> None:
    crowd = people(29)
    public, subject = crowd[:28], crowd[28]
    weights = torch.randn((200, 28), generator=Seeds(1).torch())
    decoys = mixed(public, subject, weights)
    assert torch.allclose(decoys.norm(dim=1), torch.ones(200), atol=1e-5)
    center = public.mean(0)
    away = F.normalize(subject - center, dim=0)
    # Along the line from the average to the person they lie where the average lies, but for the length of a unit vector.
    along = (decoys @ away) / (decoys @ F.normalize(center, dim=0))
    assert along.std() < 0.05 and torch.allclose(along.mean(), center @ away / center.norm(), atol=0.05)
    likeness = decoys @ public.T
    assert likeness.max() < 0.95, "one of many mixtures is nobody in particular"
    strangers = (public @ public.T)[~torch.eye(28, dtype=torch.bool)]
    assert abs((decoys @ subject).mean() - (public @ subject).mean()) < 0.1
    assert abs(likeness.mean() - strangers.mean()) < 0.1, "as far from people as these are from each other"


def test_many_keys_give_many_decoys() -> None:
    """Two keys' decoys are as unlike as two people; the mean of five people of 28 is nearly the same face for every key."""
    crowd = people(29)
    public, subject = crowd[:28], crowd[28]
    decoys = mixed(public, subject, torch.randn((40, 28), generator=Seeds(1).torch()))
    pairs = [float(decoys[i] @ decoys[j]) for i, j in combinations(range(40), 2)]
    strangers = (public @ public.T)[~torch.eye(28, dtype=torch.bool)]
    means = [F.normalize(public[torch.randperm(28, generator=Seeds(k).torch())[:5]].mean(0), dim=0) for k in range(40)]
    blurred = np.mean([float(a @ b) for a, b in combinations(means, 2)])
    assert np.mean(pairs) < float(strangers.mean()) + 0.1 < blurred
    assert max(pairs) < 0.95


def test_no_attacker_finds_the_person_in_a_decoy() -> None:
    """Re-simulation in the space of embeddings: the same person under other keys gives no better template than anybody."""
    hits = []
    for seed in range(60):
        crowd = people(36, 64)[torch.randperm(36, generator=Seeds(seed).torch())]
        public, subjects = crowd[:28], crowd[28:]
        key = Seeds(seed).child("keys").torch()
        posted = torch.cat([mixed(public, s, torch.randn((1, 28), generator=key)) for s in subjects])
        own = torch.stack([mixed(public, s, torch.randn((8, 28), generator=key)).mean(0) for s in subjects])
        scores = posted @ torch.from_numpy(unit(own.numpy())).T
        hits += (scores.argmax(1) == torch.arange(8)).tolist()
    assert abs(np.mean(hits) - 1 / 8) < 0.06


def test_the_key_decides_and_nothing_else(references: np.ndarray, bench: Workbench, base: BaseModel) -> None:
    """One key, one decoy per surrogate; another subject's name or seed is another key; other photos are not."""

    def decoys(references: np.ndarray, bench: Workbench, **options: Any) -> list[torch.Tensor]:
        return [t.decoy for t in decoupling(references, bench, IDDMKeyed(surrogate=("sface",), **options)).targets]

    first = decoys(references, bench)[0]
    assert first.shape == (1, 128)
    assert torch.equal(decoys(references, bench)[0], first)
    other = workbench(base, declared=None, seeds=Seeds(1).child("defense", "s29"))
    assert float((decoys(references, other)[0] * first).sum()) < 0.9
    mirrored = decoys(references[:, :, ::-1].copy(), bench)[0]
    assert float((mirrored * first).sum()) > 0.95, "the same key on other photos of the person: nearly the same decoy"
    each = decoys(references, bench, per="photo")[0]
    assert each.shape == (2, 128) and float(each[0] @ each[1]) < 0.9
    (person,) = decoys(references, bench, decoy="person")
    assert any(torch.allclose(person[0], bench.surrogate("sface").template([photo])) for photo in bench.strangers)


def test_decoys_of_those_who_resemble_the_subject(references: np.ndarray, bench: Workbench) -> None:
    """By all surrogates together, the same people for every key; the others have no part in the decoy."""
    part = decoupling(references, bench, IDDMKeyed(surrogate=("sface", "dlib"), alike=6))
    chosen = part._alike.tolist()
    sums = torch.zeros(len(bench.strangers))
    for name in ("sface", "dlib"):
        surrogate = bench.surrogate(name)
        crowd = torch.stack([surrogate.template([photo]) for photo in bench.strangers])
        likeness = crowd @ surrogate.template(references)
        sums += (likeness - likeness.mean()) / likeness.std()
    assert len(chosen) == 6 and set(chosen) == set(sums.topk(6).indices.tolist())
    other = workbench(bench.base, declared=None, seeds=Seeds(1).child("defense", "s29"))
    again = decoupling(references, other, IDDMKeyed(surrogate=("sface", "dlib"), alike=6))
    assert again._alike.tolist() == chosen
    assert float((again.targets[0].decoy * part.targets[0].decoy).sum()) < 0.95
    span = torch.linalg.qr(part._people(bench.surrogate("sface"))[chosen].T).Q
    template = part.targets[0].template
    span = torch.linalg.qr(torch.cat((span, template[:, None]), 1)).Q
    assert float((span.T @ part.targets[0].decoy[0]).norm()) == pytest.approx(1, abs=1e-4)
    person = decoupling(references, bench, IDDMKeyed(surrogate=("sface",), alike=6, decoy="person"))
    crowd = person._people(bench.surrogate("sface"))[person._alike]
    assert float((crowd @ person.targets[0].decoy[0]).max()) == pytest.approx(1, abs=1e-5)
    with pytest.raises(UserError, match="at least 4"):
        configure(IDDMKeyed, {"alike": 2})


def test_it_moves_toward_its_decoy_and_no_further(references: np.ndarray, bench: Workbench) -> None:
    part = decoupling(references, bench, IDDMKeyed(surrogate=("sface",), data_steps=6, lambda_dm=0.0))
    (target,) = part.targets
    reach = target.impostor + target.span
    for likeness, expected in (((1 + reach) / 2, 0.0), (reach - 0.2, 0.2 / target.span)):
        other = F.normalize(torch.eye(128)[:1] - target.decoy[:, :1] * target.decoy, dim=1)
        vector = likeness * target.decoy + float(np.sqrt(1 - likeness**2)) * other
        assert part._toward(target, vector).item() == pytest.approx(expected, abs=1e-4)

    def likeness(delta: torch.Tensor) -> float:
        with torch.no_grad():
            vectors = target.surrogate.embed(part.parts(delta)[1], target.matrices)
            return (vectors * target.decoy).sum(1).mean().item()

    with bench.trainer() as trainer:
        moved, _ = part.optimize(part.unchanged(), 4, trainer)
    assert likeness(moved) > likeness(part.unchanged()) + 0.1


def test_the_defense_says_what_it_is() -> None:
    cls = DEFENSES.get("iddm-keyed")
    assert cls().surrogates() == ("sface", "dlib") and "ours" in cls.title and not cls.paper
    assert cls().extra_photos() == ("strangers",)
    with pytest.raises(UserError, match="mode='untargeted'"):
        configure(cls, {"mode": "untargeted"})


# ---- options of IDDM -------------------------------------------------------------------------------------------------------


def test_aim_at_strangers_has_two_sides(references: np.ndarray, bench: Workbench) -> None:
    """No loss within the band, and one hinge on each side of it; with a margin, the lowest score is the best."""
    part = decoupling(references, bench, IDDM(surrogate=("sface",), aim="strangers", width=2.0))
    (target,) = part.targets
    scores = [target.relative(target.surrogate.template([photo]) @ target.template).item() for photo in bench.strangers]
    assert np.mean(scores) == pytest.approx(0, abs=1e-4) and np.std(scores, ddof=1) == pytest.approx(
        target.spread, rel=1e-3
    )
    band = 2 * target.spread
    for own, expected in ((0.0, 0), (band, 0), (-band, 0), (band + 0.3, 0.3), (-band - 0.3, 0.3)):
        assert part._away(target, torch.tensor([own])).item() == pytest.approx(expected, abs=1e-5)
    half = decoupling(references, bench, IDDM(surrogate=("sface",), aim="strangers", width=2.0, strength=0.5))
    assert half._away(target, torch.tensor([0.5 + band / 2])).item() == pytest.approx(0, abs=1e-5)
    plain = decoupling(references, bench, IDDM(surrogate=("sface",)))
    assert (
        plain._away(target, torch.tensor([0.1])).item() == pytest.approx(0.2)
        and plain._away(target, torch.tensor([-9.0])) == 0
    )


def test_one_shot_changes_the_data_before_any_training(references: np.ndarray, bench: Workbench) -> None:
    steps: list[int] = []
    plain = Trainer.train

    def counted(self: Trainer, latents: torch.Tensor, condition: torch.Tensor, count: int) -> float:
        steps.append(count)
        return plain(self, latents, condition, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train", counted)
        IDDM(rounds=2, data_steps=1, alternate=False).personalize(references, bench)
    assert steps == [0, 0, bench.lora.steps]


def test_pixel_space(references: np.ndarray, bench: Workbench) -> None:
    """The references stay within the bound of their pixels, and the identity's gradient reaches these."""
    config = IDDM(space="pixel", pixel_eps=8 / 255, data_steps=4, lambda_dm=0.1, strength=0.5)
    part = decoupling(references, bench, config)
    assert part.eps == pytest.approx(4 / 255) and part.rate == pytest.approx(0.05 * 8 / 255)
    assert np.array_equal(part.images(part.unchanged()), references)
    with bench.trainer() as trainer:
        moved, figures = part.optimize(part.unchanged(), 4, trainer)
    assert 0 < moved.abs().max() <= 4 / 255 + 1e-6 and figures["cosine"] < 1
    assert np.abs(part.images(moved).astype(int) - references).max() in (1, 2, 3, 4)
    assert part.changed(moved).shape == bench.encode(references).shape


@pytest.mark.parametrize("preset", ["sface-overshoot", "two-surrogates", "strangers"])
def test_presets(preset: str) -> None:
    """The old setting is a preset too, so that it stays when the default moves."""
    made = configure(IDDM, IDDM.presets[preset])
    assert (made.surrogate, made.margin, made.aim) == {
        "sface-overshoot": (("sface",), -0.6, "margin"),
        "two-surrogates": (("sface", "dlib"), -0.1, "margin"),
        "strangers": (("sface", "dlib"), -0.6, "strangers"),
    }[preset]


# ---- input diversity -------------------------------------------------------------------------------------------------


def crops(images: torch.Tensor, share: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Central crops of 32 pixels, as they are and as input diversity shows them."""
    matrices = torch.tensor([[[1.0, 0, -16], [0, 1, -16]]]).repeat(len(images), 1, 1)
    seen, moved = diverse(images, matrices, share, 32, Seeds(seed).torch())
    return crop(images, matrices, 32), crop(seen, moved, 32)


def test_input_diversity_shows_the_same_face_otherwise() -> None:
    """Half of those drawn mirrored, pixel by pixel; all of them smoother, none elsewhere in its crop."""
    images = torch.rand((150, 3, 64, 64), generator=Seeds(3).torch())
    images = F.avg_pool2d(
        F.pad(images, (2, 2, 2, 2), mode="reflect"), 5, 1
    )  # smooth, so that coarseness changes little
    plain, seen = crops(images, 1.0)
    as_is, turned = (seen - plain).abs().mean((1, 2, 3)), (seen - plain.flip(3)).abs().mean((1, 2, 3))
    assert torch.minimum(as_is, turned).max() < 0.03 < torch.maximum(as_is, turned).min()
    assert 0.35 < (turned < as_is).float().mean() < 0.65
    assert seen.std() < plain.std()


def test_input_diversity_has_a_share_and_repeats() -> None:
    images = torch.rand((150, 3, 64, 64), generator=Seeds(3).torch())
    plain, seen = crops(images, 0.3)
    touched = (seen != plain).flatten(1).any(1).float().mean().item()
    assert touched == pytest.approx(0.3, abs=0.1)
    assert torch.equal(seen, crops(images, 0.3)[1]) and not torch.equal(seen, crops(images, 0.3, seed=1)[1])
    assert torch.equal(*crops(images, 0.0))


def test_input_diversity_off_draws_nothing(references: np.ndarray, bench: Workbench) -> None:
    """Results from before the option keep their bits; with it, the loss is another one and has a gradient."""
    losses = []
    part = decoupling(references, bench, IDDM(surrogate=("sface",)))
    for share in (0.0, 0.0, 1.0):
        part.config = IDDM(surrogate=("sface",), diversity=share)
        generator = Seeds(0).torch()
        delta = torch.zeros_like(part.clean).requires_grad_(True)
        loss, _ = part.identity(bench.base.decode(part.clean + delta), generator)
        assert torch.autograd.grad(loss, delta)[0].abs().amax((1, 2, 3)).min() > 0
        losses.append((loss.item(), torch.rand(1, generator=generator).item()))
    without = Seeds(0).torch()
    torch.rand((len(references), 3), generator=without)  # the crops' jitter, and nothing after it
    assert losses[0] == losses[1] != losses[2] and losses[0][1] == torch.rand(1, generator=without).item()


# ---- balance ---------------------------------------------------------------------------------------------------------------


def test_balanced_gradients_have_one_length() -> None:
    """Per image, whatever a surrogate's scale; who has nothing to say stays silent, and one alone is left as it is."""
    gradients = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]], [[0.0, 100.0], [0.0, 7.0], [0.0, 0.0]]])
    expected = torch.tensor([[0.6 * 52.5, 0.8 * 52.5 + 52.5], [0.0, 7.0], [0.0, 0.0]])
    torch.testing.assert_close(balanced(gradients), expected)
    torch.testing.assert_close(balanced(gradients[1:]), gradients[1])
    pictures = torch.randn((3, 2, 3, 8, 8), generator=Seeds(0).torch())
    scaled = pictures * torch.tensor([1.0, 1e-4, 1e3]).view(3, 1, 1, 1, 1)
    a, b = balanced(pictures), balanced(scaled)
    assert (F.cosine_similarity(a.flatten(1), b.flatten(1)) > 0.999).all()


def test_balance_changes_nothing_with_one_surrogate(references: np.ndarray, bench: Workbench) -> None:
    """The same gradient, loss and cosine; with a second surrogate of another scale it is another gradient."""

    def gradient(balance: bool, *surrogate: str) -> tuple[torch.Tensor, float, float]:
        part = decoupling(references, bench, IDDM(surrogate=surrogate, balance=balance))
        delta = torch.zeros_like(part.clean).requires_grad_(True)
        images = bench.base.decode(part.clean + delta)
        loss, cosine = part.identity(images, Seeds(0).torch())
        return torch.autograd.grad(loss, delta)[0], cosine, loss.item()

    for plain, same in zip(gradient(False, "sface"), gradient(True, "sface"), strict=True):
        torch.testing.assert_close(same, plain, rtol=1e-3, atol=1e-6)
    plain, same = gradient(False, "sface", "lbph:part=inner"), gradient(True, "sface", "lbph:part=inner")
    assert same[1:] == pytest.approx(plain[1:], rel=1e-4)
    assert F.cosine_similarity(same[0].flatten(), plain[0].flatten(), dim=0) < 0.99


def test_texture_is_a_surrogate(references: np.ndarray, bench: Workbench) -> None:
    """Optimized against smooth patterns, the references differ in the real ones."""
    texture = build_attacker("lbph:part=inner")
    config = IDDM(surrogate=("lbph:part=inner",), balance=True, data_steps=10, lambda_dm=0.0, lambda_util=0.0)
    part = decoupling(references, bench, config)
    with bench.trainer() as trainer:
        moved, _ = part.optimize(part.unchanged(), 4, trainer)
    clean, before, after = (
        texture.embed(list(images)).vectors
        for images in (references, part.images(part.unchanged()), part.images(moved))
    )
    assert (clean * after).sum(1).mean() < (clean * before).sum(1).mean() - 0.02
