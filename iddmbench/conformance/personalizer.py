"""What every personalizer has to keep, checked on a tiny base model in seconds."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch

from iddmbench.conformance import require
from iddmbench.conformance.defense import DefenseSubject, global_seed, workbench
from iddmbench.conformance.tiny_base import same, state
from iddmbench.defense import Workbench
from iddmbench.defenses.none import NoDefense
from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel
from iddmbench.models.recipe import TrainingSettings
from iddmbench.personalize.adapter import own_name
from iddmbench.personalize.personalizer import Personalizer
from iddmbench.personalize.sample import applied, generate
from iddmbench.personalize.trainer import PersonalizedModel, denoising_loss
from iddmbench.seeds import Seeds

QUICK = {"steps": 4, "batch_size": 2, "prior_batch": 1, "class_images": 2}
LEARNING = {**QUICK, "steps": 30, "prior_weight": 0.0}
"""For the check that something is learned."""


class PersonalizerSubject:
    """A personalizer under test, with two photos of an ORL subject on the tiny base, four steps by default."""

    def __init__(self, cls: type[Personalizer], name: str, options: Mapping[str, Any] | None = None):
        self.cls, self.name, self.options = cls, name, dict(options or {})
        self.plugin = cls()
        self.settings()

    def settings(self, **changes: Any) -> TrainingSettings:
        """Raises UserError for a wrong option."""
        return self.plugin.settings(
            self.base.recipe, {**QUICK, **changes, **self.options}, f"personalizer '{self.name}'"
        )

    @cached_property
    def _photos(self) -> DefenseSubject:
        return DefenseSubject(NoDefense, "none")

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the base's, under the names that they had before any adapter."""
        return {own_name(name): weight for name, weight in state(self.base).items()}

    @property
    def base(self) -> BaseModel:
        return self._photos.base

    def bench(self, **changes: Any) -> Workbench:
        return workbench(self.base, (), lora=self.settings(**changes), personalizer=self.plugin)

    def train(self, **changes: Any) -> PersonalizedModel:
        return self.bench(**changes).personalize(self._photos.references).model

    @cached_property
    def model(self) -> PersonalizedModel:
        with global_seed(7):
            return self.train()

    def images(self, model: PersonalizedModel) -> np.ndarray:
        recipe = self.base.recipe
        return generate(self.base, model, list(recipe.prompts.evaluation), 1, recipe.sampling, Seeds(0).child("check"))

    def loss(self, model: PersonalizedModel) -> float:
        """DreamBooth's loss on the photos, over noise and timesteps that are the same for every model."""
        bench = self.bench()
        latents = bench.encode(self._photos.references)
        with applied(self.base, model) as unet, torch.no_grad():
            condition = bench.condition(self._photos.references)  # as the model reads it
            generator = Seeds(0).child("loss").torch()
            draws = [denoising_loss(self.base, unet, latents, condition, generator).mean() for _ in range(8)]
        return float(torch.stack(draws).mean())


def describes_itself(subject: PersonalizerSubject) -> None:
    cls = subject.cls
    require(cls.name == subject.name, f"`name` is {cls.name!r}, but it is registered as {subject.name!r}")
    require(cls.title, "`title` must be one line for lists and reports")
    require(isinstance(cls.version, int), f"`version` must be an int, got {cls.version!r}")
    require(issubclass(cls.Settings, TrainingSettings), "`Settings` must derive from TrainingSettings")
    for name, field in cls.Settings.model_fields.items():
        require(field.description, f"setting `{name}` needs a description: it is its help text")
        require(not field.is_required(), f"setting `{name}` needs a default: `{cls.name}` alone must work")


def options_are_checked(subject: PersonalizerSubject) -> None:
    for changes in ({"no_such_setting": 1}, {"steps": 0}, {"learning_rate": float("nan")}):
        try:
            subject.plugin.settings(subject.base.recipe, changes, "personalizer")
        except UserError:
            continue
        raise AssertionError(f"{changes} must be refused: derive Settings from TrainingSettings")


def the_base_is_left_alone(subject: PersonalizerSubject) -> None:
    before = subject.weights()
    subject.train()
    require(same(subject.weights(), before), "the base model's weights must be the same after the training")
    left = [name for name, weight in subject.base.unet.named_parameters() if weight.requires_grad]
    require(not left, f"nothing of the base may require gradients afterwards: {left[:1]}")


def the_base_is_left_alone_by_a_failure(subject: PersonalizerSubject) -> None:
    before = subject.weights()
    try:
        with subject.bench().trainer():
            raise KeyError("the defense")
    except KeyError:
        require(same(subject.weights(), before), "the base model's weights must come back after an error too")
        return
    raise AssertionError("the trainer must not swallow an error")


def a_model_is_stored_and_read(subject: PersonalizerSubject) -> None:
    tensors = subject.plugin.tensors(subject.model)
    require(tensors, "`tensors` returns nothing for a trained model")
    wrong = [k for k, w in tensors.items() if w.device.type != "cpu" or not bool(torch.isfinite(w).all())]
    require(not wrong, f"tensors must be finite and on the CPU: {wrong[:1]}")
    again = subject.plugin.model({k: w.clone() for k, w in tensors.items()}, subject.model.settings)
    equal = np.array_equal(subject.images(again), subject.images(subject.model))
    require(equal, "a model that was stored and read must give the same images, bit for bit")


def it_learns(subject: PersonalizerSubject) -> None:
    """On the tiny base at a rate that is high enough to show in a few steps."""
    plain = subject.loss(PersonalizedModel(None, subject.settings()))
    rate = 10 * max(subject.settings().learning_rate, 1e-4) if "learning_rate" not in subject.options else None
    learned = subject.loss(subject.train(**LEARNING, **({"learning_rate": min(rate, 1e-2)} if rate else {})))
    require(learned < plain, f"the loss on the photos must fall: {plain:.4f} before, {learned:.4f} after the training")


def the_same_seeds_give_the_same_model(subject: PersonalizerSubject) -> None:
    with global_seed(11):
        again = subject.train()
    equal = same(subject.plugin.tensors(again), subject.plugin.tensors(subject.model))
    require(equal, "the model must be the same bit for bit: draw from the given seeds only")


CHECKS: list[Callable[[PersonalizerSubject], None]] = [
    describes_itself,
    options_are_checked,
    the_base_is_left_alone,
    the_base_is_left_alone_by_a_failure,
    a_model_is_stored_and_read,
    it_learns,
    the_same_seeds_give_the_same_model,
]
