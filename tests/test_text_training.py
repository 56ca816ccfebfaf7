"""Personalizers that train the text side: `dreambooth` with the text encoder, and `textual-inversion`; each against a plain
loop of what diffusers' example script computes, under every defense, and what is refused."""

import copy
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from test_defenses import NAMES, SHORT
from tiny_base import CHANNELS, SIDE, same, state, write_base
from torch.nn import functional as F
from typer.testing import CliRunner

from iddmbench.cli import app
from iddmbench.conformance.defense import workbench
from iddmbench.conformance.personalizer import CHECKS, PersonalizerSubject
from iddmbench.datasets.orl import ORL
from iddmbench.defense import DEFENSES, Defense, Personalization, Workbench, configure
from iddmbench.errors import UserError
from iddmbench.faces.detect import YuNet
from iddmbench.models.base import BaseModel, load_base
from iddmbench.models.recipe import Recipe, Sampling
from iddmbench.personalize.dreambooth import DreamBooth
from iddmbench.personalize.lora import Lora
from iddmbench.personalize.personalizer import PERSONALIZERS, Personalizer
from iddmbench.personalize.prepared import prepared
from iddmbench.personalize.sample import applied, generate
from iddmbench.personalize.textual_inversion import TextualInversion
from iddmbench.personalize.trainer import Trainer
from iddmbench.photos.references import crop_references
from iddmbench.run.config import make_config
from iddmbench.run.plan import RunPlan
from iddmbench.seeds import Seeds

pytestmark = pytest.mark.usefixtures("plugins")

CAPTIONS = ["a photo of sks person", "a photo of sks person, facing left", "a photo of sks person"]
FULL = {"train_text_encoder": True, "steps": 4, "learning_rate": 1e-3, "prior_weight": 0.7, "class_images": 2}
WORD = {"steps": 4, "batch_size": 4, "learning_rate": 1e-2}
TEXT: list[tuple[type[Personalizer], dict[str, Any]]] = [(DreamBooth, FULL), (TextualInversion, WORD)]
STEPS = 3


@pytest.fixture(scope="module", params=["v_prediction", "epsilon"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = tmp_path_factory.mktemp("base")
    return load_base(str(write_base(folder, request.param, {} if request.param == "epsilon" else None)))


def latents(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, CHANNELS, SIDE // 2, SIDE // 2, generator=Seeds(seed).child("latents").torch())


def trainer_of(base: BaseModel, plugin: Personalizer, options: dict[str, Any]) -> tuple[Trainer, torch.Tensor]:
    settings = plugin.settings(base.recipe, options, "--personalizer-set")
    text = plugin.text(base, settings, CAPTIONS)
    return plugin.trainer(base, settings, latents(2, 9), Seeds(0)), text


def draws(base: BaseModel, step: int, batch: int, prior: int) -> tuple[torch.Tensor, ...]:
    """What the trainer draws: references, class images, noise, timesteps."""
    generator = Seeds(0).child("step", step).torch()
    rounds = [torch.randperm(3, generator=generator) for _ in range(-(-batch // 3))]
    chosen = torch.cat(rounds)[:batch]
    drawn = torch.randint(0, 2, (prior,), generator=generator) if prior else torch.zeros(0, dtype=torch.long)
    noise = torch.randn((batch + prior, CHANNELS, SIDE // 2, SIDE // 2), generator=generator)
    return (
        chosen,
        drawn,
        noise,
        torch.randint(0, base.scheduler.config.num_train_timesteps, (batch + prior,), generator=generator),
    )


def noised(
    base: BaseModel, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The UNet's input and target, from the schedule's definition (DDPM, Eq. 4; progressive distillation, App. D)."""
    a = base.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
    velocity = base.scheduler.config.prediction_type == "v_prediction"
    return noisy, a.sqrt() * noise - (1 - a).sqrt() * clean if velocity else noise


def test_dreambooth_with_the_text_encoder_is_the_scripts(base: BaseModel) -> None:
    """Losses and weights of three steps: instance and class images in one batch, all texts encoded in every step, one AdamW
    and one clipping over both networks."""
    unet, encoder = (copy.deepcopy(part).requires_grad_(True) for part in (base.unet, base.text_encoder))
    weights = [*unet.parameters(), *encoder.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    ids = base.tokens([*CAPTIONS, base.recipe.prompts.class_])
    trainer, text = trainer_of(base, DreamBooth(), FULL)
    with trainer:
        for step in range(STEPS):
            chosen, drawn, noise, t = draws(base, step, 2, 2)
            clean = torch.cat((latents(3)[chosen], latents(2, 9)[drawn]))
            noisy, target = noised(base, clean, noise, t)
            condition = encoder(torch.cat((ids[chosen], ids[3:].expand(2, -1)))).last_hidden_state
            (own, prior), (wanted, wanted_prior) = unet(noisy, t, condition).sample.chunk(2), target.chunk(2)
            loss = F.mse_loss(own, wanted) + 0.7 * F.mse_loss(prior, wanted_prior)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            found = trainer.train(latents(3), text, 1)
            assert found == pytest.approx(loss.item(), abs=1e-5 if step == 0 else 1e-4)
        learned = trainer.model().replaced
    moved = dict(encoder.named_parameters())["final_layer_norm.weight"].detach()
    torch.testing.assert_close(learned["text_encoder.final_layer_norm.weight"], moved, atol=1e-5, rtol=0)
    assert not torch.equal(moved, base.text_encoder.final_layer_norm.weight)
    assert {name.partition(".")[0] for name in learned} == {"unet", "text_encoder"}


@pytest.mark.parametrize("vectors", [1, 2])
def test_textual_inversion_is_the_scripts(base: BaseModel, vectors: int) -> None:
    """Losses and vectors of three steps: the new tokens are rows of an enlarged embedding matrix, AdamW steps all of it without
    clipping, and the other rows are put back."""
    names = ["<subject>", "<subject>_1"][:vectors]
    tokenizer, encoder = copy.deepcopy(base.tokenizer), copy.deepcopy(base.text_encoder)
    tokenizer.add_tokens(names)
    encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    matrix = encoder.get_input_embeddings().weight.requires_grad_(True)
    new = tokenizer.convert_tokens_to_ids(names)
    with torch.no_grad():
        matrix[new] = matrix[tokenizer("person", add_special_tokens=False).input_ids[0]].clone()
    before = matrix.detach().clone()
    optimizer = torch.optim.AdamW([matrix], lr=1e-2, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    prompts = [caption.replace("sks", " ".join(names)) for caption in CAPTIONS]
    ids = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    own = state(base)
    trainer, text = trainer_of(base, TextualInversion(), {**WORD, "vectors": vectors})
    assert torch.equal(text, ids)
    with trainer:
        for step in range(STEPS):
            chosen, _, noise, t = draws(base, step, 4, 0)
            noisy, target = noised(base, latents(3)[chosen], noise, t)
            predicted = base.unet(noisy, t, encoder(ids[chosen]).last_hidden_state).sample
            loss = F.mse_loss(predicted, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                others = torch.ones(len(matrix), dtype=torch.bool)
                others[new] = False
                matrix[others] = before[others]
            found = trainer.train(latents(3), text, 1)
            assert found == pytest.approx(loss.item(), abs=1e-5)
        model = trainer.model()
    assert model.placeholder is not None and same(state(base), own)
    torch.testing.assert_close(model.placeholder.vectors, matrix[new].detach(), atol=1e-4, rtol=0)
    assert not torch.equal(model.placeholder.vectors, before[new])


def test_a_word_is_generated_from_as_it_was_trained(base: BaseModel) -> None:
    """Prompts with the words that it stands for are read with its vectors, others as ever; afterwards nothing is left."""
    trainer, text = trainer_of(base, TextualInversion(), WORD)
    plain = base.embed_text([CAPTIONS[0], "a photo of person"])
    with trainer:
        trainer.train(latents(3), text, 4)
        during, model = base.embed_text([CAPTIONS[0], "a photo of person"]), trainer.model()
    assert not torch.equal(during[0], plain[0]) and torch.allclose(during[1], plain[1], atol=1e-6)
    with applied(base, model):
        assert torch.equal(base.embed_text([CAPTIONS[0], "a photo of person"]), during)
    assert torch.equal(base.embed_text([CAPTIONS[0], "a photo of person"]), plain)
    settings = trainer.settings
    stored = TextualInversion().tensors(model)
    assert list(stored) == ["<subject>"] and stored["<subject>"].shape == (1, plain.shape[2])
    again, sampling = TextualInversion().model(stored, settings), Sampling(steps=2, guidance=2.0)
    one, other = (generate(base, m, CAPTIONS[:1], 1, sampling, Seeds(0)) for m in (model, again))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("plugin", TEXT, ids=["dreambooth", "textual-inversion"])
def test_conformance(plugin: tuple[type[Personalizer], dict[str, Any]], check: Any) -> None:
    options = {"train_text_encoder": True} if plugin[0] is DreamBooth else {"learning_rate": 1e-2}
    check(PersonalizerSubject(plugin[0], plugin[0].name, options))


# ---- defenses ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return load_base(str(write_base(tmp_path_factory.mktemp("tiny"))))


def bench_with(base: BaseModel, plugin: Personalizer, options: dict[str, Any]) -> Workbench:
    settings = plugin.settings(base.recipe, options, "--personalizer-set")
    latents = {} if settings.prior_weight else {"class_latents": torch.zeros(0)}
    return workbench(base, None, lora=settings, personalizer=plugin, **latents)


QUICKEST = ("none", "generic", "iddm", "iddm-keyed", "aspl", "caat", "apl", "apdm", "blur")
"""With textual inversion; the others, which act alike, are among the slow tests."""
CASES = [pytest.param(TEXT[0], name, id=f"dreambooth-{name}") for name in NAMES] + [
    pytest.param(TEXT[1], name, id=f"word-{name}", marks=[] if name in QUICKEST else [pytest.mark.slow])
    for name in NAMES
]


@pytest.mark.parametrize(("plugin", "name"), CASES)
def test_every_defense_works(name: str, plugin: tuple[type[Personalizer], dict[str, Any]], tiny: BaseModel) -> None:
    """Photos and model of each defense; the base comes back, and what was trained is the text side too."""
    made = plugin[0]()
    bench = bench_with(tiny, made, {**plugin[1], "steps": 3})
    photos = crop_references(ORL().load().subjects[0], tiny, YuNet())[:2]
    defense = configure(DEFENSES.get(name), SHORT.get(name, {}))
    defense.check_personalizer(made.name, bench.lora)
    before = state(tiny)
    made_base = defense.prepare(photos[:0] if defense.once else photos, bench)
    with prepared(tiny, made_base, defense.strength):
        model = defense.personalize(defense.protect(photos, bench), bench).model
        if defense.acts_on("prepare"):
            assert generate(tiny, model, CAPTIONS[:1], 1, tiny.recipe.sampling, Seeds(0)).shape == (1, SIDE, SIDE, 3)
    assert {k.replace(".base_layer", "") for k in state(tiny)} == {k.replace(".base_layer", "") for k in before}
    assert all(torch.equal(a, b) for a, b in zip(state(tiny).values(), before.values(), strict=True))
    trained = {n.partition(".")[0] for n in model.replaced} | ({"word"} if model.placeholder else set())
    wanted = {"unet", "text_encoder"} if made.name == "dreambooth" else {"word"}
    assert trained == (set() if name in ("generic", "control-class") else wanted)


class Own(Defense):
    """Trains by itself on embeddings that it makes once, as defenses did before."""

    name: ClassVar[str] = "own"
    title: ClassVar[str] = "trains on fixed embeddings"

    def personalize(self, references: np.ndarray, bench: Workbench) -> Personalization:
        with bench.trainer() as trainer:
            trainer.train(bench.encode(references), bench.condition(references), 1)
            return Personalization(trainer.model())


def test_a_defense_that_cannot(tiny: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line before the run; the trainer says it too where nobody asked."""
    monkeypatch.setitem(DEFENSES._added, "own", Own)
    chosen = {"dataset": "tiny-orl", "base": str(tiny.folder), "defenses": ("own",), "attackers": ("coarse",)}

    def plan(**more: Any) -> RunPlan:
        return RunPlan.of(make_config({**chosen, **more}), tiny.folder / "cache")

    encoder = {"personalizer": "dreambooth", "personalizer_options": {"train_text_encoder": "true"}}
    message = "defense 'own' can't be used with personalizer '{}' as set: it trains the text encoder"
    for more in (encoder, {"personalizer": "textual-inversion"}):
        with pytest.raises(UserError, match=message.format(more["personalizer"])) as error:
            plan(**more)
        assert "\n" not in str(error.value)
        assert plan(**{**more, "defenses": ("iddm",)}).cells
    assert plan(personalizer="dreambooth").cells and plan().cells
    bench = bench_with(tiny, DreamBooth(), FULL)
    photos = crop_references(ORL().load().subjects[0], tiny, YuNet())[:2]
    with pytest.raises(UserError, match=r"train on `bench\.text"):
        Own().personalize(photos, bench)
    assert Own().personalize(photos, bench_with(tiny, DreamBooth(), {"steps": 1})).model.replaced


# ---- presets and bad input ---------------------------------------------------------------------------------------------


def test_presets() -> None:
    recipe = Recipe.model_validate({})
    anti = DreamBooth().settings(recipe, {"preset": "anti-dreambooth"}, "--personalizer-set")
    wanted = {"batch_size": 2, "learning_rate": 5e-7, "steps": 1000, "class_images": 200, "prior_weight": 1.0}
    assert anti.model_dump().items() >= {**wanted, "train_text_encoder": True}.items()
    script = DreamBooth().settings(recipe, {"preset": "diffusers"}, "--personalizer-set")
    assert script.model_dump().items() >= {"batch_size": 4, "learning_rate": 5e-6, "prior_weight": 0.0}.items()
    lora = make_config({"lora": {"preset": "diffusers", "rank": "8"}}).training_settings(recipe)
    assert lora.model_dump().items() >= {"rank": 8, "alpha": 4.0, "learning_rate": 5e-4, "schedule": "constant"}.items()
    word = TextualInversion().settings(recipe, {"preset": "diffusers"}, "--personalizer-set")
    assert (
        word.model_dump().items()
        >= {"batch_size": 16, "steps": 5000, "initializer": "person", "stands_for": "sks"}.items()
    )


def test_newer_settings_at_their_defaults_change_no_key() -> None:
    recipe = Recipe.model_validate({})
    assert {"schedule", "optimizer"}.isdisjoint(recipe.lora.model_dump(mode="json"))
    assert "train_text_encoder" not in DreamBooth().defaults(recipe).model_dump()
    assert Lora().settings(recipe, {"schedule": "linear"}, "--lora") == recipe.lora


def test_a_constant_rate(tiny: BaseModel) -> None:
    for schedule, last in (("linear", 1e-2 * (1 - 0.9 * 3 / 4)), ("constant", 1e-2)):
        trainer, text = trainer_of(tiny, Lora(), {"schedule": schedule, "steps": 4})
        with trainer:
            trainer.train(latents(3), text, 4)
            assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(last)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("dreambooth", "preset=anti-dreamboot"),
            "'dreambooth' has no preset 'anti-dreamboot': did you mean 'anti-dreambooth'",
        ),
        (("lora", "preset=anti-dreambooth"), "personalizer 'lora' has no preset 'anti-dreambooth': known: diffusers"),
        (
            ("lora", "optimizer=adamw-8bit"),
            "optimizer=adamw-8bit needs a CUDA device, and the base is on cpu: use adamw",
        ),
        (("textual-inversion", "optimizer=adamw-8bit"), "optimizer=adamw-8bit needs a CUDA device"),
        (("lora", "targets=to_nowhere"), "the base's UNet has no layer 'to_nowhere'"),
        (("textual-inversion", "prior_weight=1"), "prior_weight='1': input should be less than or equal to 0"),
        (("textual-inversion", "placeholder=person"), "placeholder 'person' is in the base's vocabulary already"),
        (("textual-inversion", "placeholder=my dog"), "placeholder='my dog'"),
        (("textual-inversion", "initializer=zebracrossing"), "tokens of the base's vocabulary: give one common word"),
        (
            ("textual-inversion", "stands_for=zwx"),
            "stands_for='zwx' is not in the instance prompt 'a photo of sks person'",
        ),
    ],
)
def test_bad_input(options: tuple[str, str], message: str, tiny: BaseModel, tmp_path: Any) -> None:
    """One line and status 2, before anything is computed."""
    words = [
        "run",
        "--dataset",
        "orl",
        "--personalizer",
        options[0],
        "--personalizer-set",
        options[1],
        "--base",
        str(tiny.folder),
    ]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")])
    said = " ".join(result.stderr.split())
    assert result.exit_code == 2 and message in said, said
    assert not (tmp_path / "out").exists()


def test_all_are_known() -> None:
    assert {"lora", "dreambooth", "textual-inversion"} <= {*PERSONALIZERS.names()}
