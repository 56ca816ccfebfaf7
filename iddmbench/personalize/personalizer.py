"""The base class of personalizers: how a base model learns a person from reference photos."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from iddmbench.errors import UserError, did_you_mean
from iddmbench.models.base import BaseModel
from iddmbench.models.recipe import Recipe, TrainingSettings
from iddmbench.options import changed_settings
from iddmbench.personalize.trainer import PersonalizedModel, Trainer
from iddmbench.registry import Registry
from iddmbench.seeds import Seeds

PRESET = "preset"
"""What chooses a preset among the settings."""


class Personalizer(ABC):
    """A personalizer plugin. A defense trains through its `trainer` and never knows which one it is.

    Attributes:
        Settings: its options (`--personalizer-set name=value`), `TrainingSettings` and more.
        presets: settings by the name of a preset (`--personalizer-set preset=NAME`); what else is set goes on top.
        version: raised when the algorithm changes: it is part of a cell's key, so stale results are not reused.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str] = ""
    version: ClassVar[int] = 1
    Settings: ClassVar[type[TrainingSettings]] = TrainingSettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def defaults(self, recipe: Recipe) -> TrainingSettings:
        """The settings before any change; a base model's recipe may say them."""
        return type(self).Settings.model_validate({})

    def settings(self, recipe: Recipe, changes: Mapping[str, Any], option: str) -> TrainingSettings:
        """The settings of a run. Raises UserError that names `option` and the wrong preset, key or value."""
        settings, own = self.defaults(recipe), dict(changes)
        if PRESET in own:
            preset = str(own.pop(PRESET))
            if preset not in self.presets:
                known = did_you_mean(preset, self.presets) if self.presets else "it has none"
                raise UserError(f"{option} {PRESET}: personalizer '{self.name}' has no preset '{preset}': {known}")
            settings = changed_settings(settings, self.presets[preset], f"{option} {PRESET}={preset}")
        return changed_settings(settings, own, option)

    def check(self, base: BaseModel, settings: Any) -> None:  # noqa: B027  # most have nothing to check
        """Raises UserError when these settings can't work on the base; called before anything is computed, so no weights are
        read."""

    def text(self, base: BaseModel, settings: Any, captions: list[str]) -> Tensor:
        """What a trainer takes captions as: embeddings float [N, tokens, width], or token ids int [N, tokens] where the text
        encoder is trained too."""
        return base.tokens(captions) if settings.trains_text else base.embed_text(captions)

    @abstractmethod
    def trainer(self, base: BaseModel, settings: Any, class_latents: Tensor, seeds: Seeds) -> Trainer:
        """What trains one person's model.

        Args:
            settings: an instance of `Settings`. class_latents: float [M, C, h, w], for prior preservation.
            seeds: the same for every defense, so that they differ by what they do only.
        """

    def tensors(self, model: PersonalizedModel) -> dict[str, Tensor]:
        """What is stored of a trained model; nothing for the base itself. Weights that replace the base's, by default."""
        return dict(model.replaced)

    def model(self, tensors: dict[str, Tensor], settings: Any) -> PersonalizedModel:
        """The inverse of `tensors`."""
        return PersonalizedModel(None, settings, replaced=tensors)

    def key(self) -> dict[str, Any]:
        return {"name": self.name, "version": self.version}


PERSONALIZERS: Registry[Personalizer] = Registry(
    "personalizer",
    Personalizer,  # type: ignore[type-abstract]
    {
        "lora": "iddmbench.personalize.lora:Lora",
        "dreambooth": "iddmbench.personalize.dreambooth:DreamBooth",
        "textual-inversion": "iddmbench.personalize.textual_inversion:TextualInversion",
    },
    "iddmbench.personalizers",
    texts=("name", "title"),
)
