"""A defense that prepares the base model: the hook, how a cell's stages use and store it, and what a wrong one is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lab_plugins import TinyORL
from tiny_base import same, state

from iddmbench.cells.cell import Cell, Outputs, UnauthorizedTrainer
from iddmbench.cells.stages import CellStages
from iddmbench.conformance.defense import workbench
from iddmbench.defense import DEFENSES, Defense, Workbench, configure
from iddmbench.errors import UserError
from iddmbench.export.find import _check_trains
from iddmbench.linking.score import cost_columns
from iddmbench.models.base import BaseModel
from iddmbench.models.prefix import Prefix, embed_behind, embed_prompts
from iddmbench.personalize.prepared import PreparedBase, prepared
from iddmbench.results.run_folder import TABLES
from iddmbench.run.config import make_config
from iddmbench.seeds import Seeds
from iddmbench.store.cache import Store
from iddmbench.store.cost import Cost

CONV = "unet.conv_in.weight"
calls: list[tuple[str, int]] = []


class Louder(Defense):
    """Doubles a layer of the UNet, for each person."""

    name, title = "louder", "test"

    def prepare(self, references: np.ndarray, bench: Workbench) -> PreparedBase:
        calls.append((bench.subject, len(references)))
        return PreparedBase({CONV: 2 * bench.base.unet.conv_in.weight.detach()})


class Word(Defense):
    """The same prefix for everybody."""

    name, title, once, prompts_only = "word", "test", True, True

    def prepare(self, references: np.ndarray, bench: Workbench) -> PreparedBase:
        calls.append((bench.subject, len(references)))
        return PreparedBase(prefix=torch.randn(3, 128, generator=bench.seeds.child("word").torch()))


def words(base: BaseModel, text: str) -> torch.Tensor:
    """The embeddings of a text's tokens, without start and end."""
    ids = base.tokenizer(text).input_ids[1:-1]
    return base.text_encoder.get_input_embeddings()(torch.tensor(ids)).detach()


# ---- the prepared base ------------------------------------------------------------------------------------------------


def test_a_prefix_of_words_is_the_prompt_with_these_words(base: BaseModel) -> None:
    long = ["person", "sks person, facing left"]
    wanted = base.embed_text([f"a photo of {text}" for text in long])
    found = embed_behind(base, long, words(base, "a photo of"))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    plain = base.embed_text(long)
    base.prefix = Prefix(words(base, "a photo of"), 0.25)
    try:
        torch.testing.assert_close(embed_prompts(base, long), 0.75 * plain + 0.25 * wanted, rtol=0, atol=1e-6)
        assert torch.equal(base.embed_text(long), plain)  # training and the empty prompt see none
    finally:
        base.prefix = None
    assert torch.equal(embed_prompts(base, long), plain)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_weights_take_part_with_the_strength_and_come_back(base: BaseModel, strength: float) -> None:
    before, own = state(base), base.unet.conv_in.weight.detach().clone()
    other = torch.randn(own.shape, generator=Seeds(0).torch())
    with (
        pytest.raises(ZeroDivisionError),
        prepared(base, PreparedBase({CONV: other}, torch.zeros(1, 128)), strength),
    ):
        torch.testing.assert_close(base.unet.conv_in.weight.detach(), (1 - strength) * own + strength * other)
        assert (base.prefix is None) == (strength == 0)
        raise ZeroDivisionError
    assert same(state(base), before) and base.prefix is None


def test_tensors_hold_all_of_it() -> None:
    made = PreparedBase({CONV: torch.ones(2)}, torch.zeros(3, 4))
    again = PreparedBase.of(made.tensors())
    assert set(again.replaced) == {CONV} and again.prefix is not None and again.prefix.shape == (3, 4)
    assert PreparedBase.of(PreparedBase().tensors()).prefix is None


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: {CONV: torch.ones(1)}, r"gives dict, expected PreparedBase"),
        (lambda: PreparedBase({"unet.nothing": torch.ones(1)}), r"a weight 'unet.nothing' that the base does not have"),
        (lambda: PreparedBase({"conv_in.weight": torch.ones(1)}), r"names are PART.NAME"),
        (
            lambda: PreparedBase({CONV: torch.ones(1)}),
            r"'unet.conv_in.weight' of shape \(1,\), expected \(16, 4, 3, 3\)",
        ),
        (
            lambda: PreparedBase({CONV: torch.full((16, 4, 3, 3), torch.nan)}),
            r"NaN or infinite numbers in 'unet.conv_in",
        ),
        (lambda: PreparedBase(prefix=torch.ones(5)), r"a prefix of shape \(5,\), expected \(tokens, 128\)"),
        (lambda: 1 / 0, r"prepare failed: ZeroDivisionError"),
    ],
)
def test_a_wrong_one_is_named(base: BaseModel, made: Callable[[], Any], message: str) -> None:
    class Wrong(Defense):
        name, title = "wrong", "test"

        def prepare(self, references: np.ndarray, bench: Workbench) -> PreparedBase:
            return made()

    with pytest.raises(UserError, match=f"defense 'wrong': prepare .*{message}|defense 'wrong': {message}"):
        Wrong().prepare(np.zeros((1, 64, 64, 3), np.uint8), workbench(base, None))


# ---- the stages of a cell ---------------------------------------------------------------------------------------------


def stages_of(base: BaseModel, cache: Path, trainer: UnauthorizedTrainer | None = None) -> CellStages:
    recipe = base.recipe
    return CellStages(base, TinyORL().load(), Store(cache), recipe.lora, recipe.sampling, (), 1, trainer)


def test_a_base_prepared_for_each_person(base: BaseModel, tmp_path: Path) -> None:
    """Once for all strengths; whoever trains gets it; the base is what it was."""
    calls.clear()
    stages = stages_of(base, tmp_path)
    (one, two) = stages.data.subjects[:2]
    plain = stages.outputs(Cell(one, configure(DEFENSES.get("none"), {}), 0)).images
    before = state(base)  # the first adapter has renamed its modules
    found = {s: stages.outputs(Cell(one, Louder(strength=s), 0)) for s in (0.0, 0.5, 1.0)}
    assert calls == [("s29", len(one.references))]
    assert np.array_equal(found[0.0].images, plain)
    moved = [np.abs(found[s].images.astype(int) - plain).mean() for s in (0.5, 1.0)]
    assert min(moved) > 0 and not np.array_equal(found[0.5].images, found[1.0].images)
    assert "prepare" in found[1.0].costs and "prepare" not in found[0.0].costs
    assert stages.open_stages(Cell(two, Louder(), 0)) == ["prepare", "personalize", "generate"]
    assert not stages.open_stages(Cell(one, Louder(), 0))
    thief = stages_of(base, tmp_path, UnauthorizedTrainer())
    assert np.array_equal(thief.outputs(Cell(one, Louder(), 0)).images, found[1.0].images)
    assert same(state(base), before)


def test_a_prefix_prepared_once(base: BaseModel, tmp_path: Path) -> None:
    """For everybody; the trained model is the undefended one, its images are made behind the prefix."""
    calls.clear()
    stages = stages_of(base, tmp_path)
    none = configure(DEFENSES.get("none"), {})
    for subject in stages.data.subjects[:2]:
        plain, cell = Cell(subject, none, 0), Cell(subject, Word(), 0)
        images = stages.outputs(plain).images
        assert stages.model_key(cell) == stages.model_key(plain)
        assert not np.array_equal(stages.outputs(cell).images, images)
        assert np.array_equal(stages.outputs(Cell(subject, Word(strength=0), 0)).images, images)
    assert calls == [("", 0)]
    assert stages.prepare_key(Cell(subject, Word(), 1)) != stages.prepare_key(cell)
    assert stages.image_key(Cell(subject, Word(strength=0.5), 0)) != stages.image_key(cell)


def test_prompts_only_rules_out_weights(base: BaseModel, tmp_path: Path) -> None:
    class Both(Louder):
        name, prompts_only = "both", True

    stages = stages_of(base, tmp_path)
    with pytest.raises(UserError, match="defense 'both': prepare gives weights, which `prompts_only` rules out"):
        stages.outputs(Cell(stages.data.subjects[0], Both(), 0))


def test_who_may_use_it() -> None:
    """It acts on somebody else's training too; an adapter of such a base is not the measured model."""
    make_config({"defenses": ("apdm", "apl"), "threat": "unauthorized"}).check()
    with pytest.raises(UserError, match="defense 'apdm' prepares the base model, which an adapter does not hold"):
        _check_trains(configure(DEFENSES.get("apdm"), {}), {})


def test_preparing_counts_as_protecting() -> None:
    """The table of cells has a fixed set of columns."""
    costs = {"prepare": Cost(2.0, 10, 0), "protect": Cost(3.0, 20, 0), "personalize": Cost(4.0, 5, 0)}
    row = cost_columns(Outputs(np.zeros(0), [], {}, {}, costs), [Cost(1.0, 1, 0)])
    assert {name for name in row if name.startswith("seconds")} <= set(TABLES["cells"])
    assert (row["seconds"], row["seconds_protect"], row["seconds_personalize"]) == (10.0, 5.0, 4.0)
