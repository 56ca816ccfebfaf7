"""What a base model needs beside its weights: its domain's prompts and the settings that personalize and sample it.

A base folder may hold it as `iddmbench.json`; without that file the Stable Diffusion defaults below apply. It is data, so that
the embedded model and Stable Diffusion run through the same code.
"""

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from iddmbench.errors import UserError

FILE = "iddmbench.json"
DECLARED = ("trained_on", "judges")
"""Keys that say how the base was trained: they change no image and are not part of its fingerprint."""


class Prompts(BaseModel):
    """The prompts of a domain; the defaults are Anti-DreamBooth's (arXiv 2303.15433)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    instance: str = Field("a photo of sks person", description="names the subject in training")
    class_: str = Field("a photo of person", alias="class", description="names the class in prior preservation")
    captions: Literal["instance", "attributes", "portrait"] = Field(
        "instance",
        description="reference photos are captioned by the instance prompt alone, or with their pose, framing and light, "
        "or with their pose, smile, light and backdrop",
    )
    evaluation: tuple[str, ...] = Field(
        (
            "a photo of sks person",
            "a dslr portrait of sks person",
            "a close-up photo of sks person riding a bike",
            "a photo of sks person in front of eiffel tower",
            "a selfie photo of sks person on top of mount fuji",
        ),
        description="prompts of the generated images",
    )


def trigger_words(prompts: Prompts) -> list[str]:
    """The words of the instance prompt that the class prompt lacks: "a photo of sks person" -> sks."""
    known = set(prompts.class_.split())
    return [word for word in prompts.instance.split() if word not in known]


class TrainingSettings(BaseModel):
    """What every personalizer is told: DreamBooth's training with prior preservation (Ruiz et al. 2022, arXiv 2208.12242)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    later: ClassVar[tuple[str, ...]] = ()
    """Newer settings, `optimizer` beside them: left out of what is stored while at their defaults, so that results from before
    they came stay valid."""

    steps: int = Field(400, ge=1, description="optimizer steps")
    batch_size: int = Field(2, ge=1, description="reference images per step")
    learning_rate: float = Field(
        1e-4, gt=0, description="AdamW learning rate at the start; it falls linearly to a tenth"
    )
    prior_weight: float = Field(1.0, ge=0, description="weight of the prior-preservation loss; 0 turns it off")
    prior_batch: int = Field(2, ge=1, description="class images per step")
    class_images: int = Field(200, ge=1, description="class images generated once per base model")
    optimizer: Literal["adamw", "adamw-8bit"] = Field(
        "adamw",
        description="adamw-8bit: AdamW's moments in 8 bits, a quarter of their memory; needs CUDA and bitsandbytes",
    )

    @property
    def trains_text(self) -> bool:
        """Whether weights or vectors of the text encoder are trained, so that a text's embedding changes meanwhile."""
        return False

    @model_serializer(mode="wrap")
    def _changed_later(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        usual = {name for name in (*self.later, "optimizer") if getattr(self, name) == fields[name].default}
        return {name: value for name, value in dump(self).items() if name not in usual}


class LoraSettings(TrainingSettings):
    """How `lora` personalizes (Hu et al. 2021, arXiv 2106.09685)."""

    later: ClassVar[tuple[str, ...]] = ("schedule", "train_text_encoder")

    rank: int = Field(16, ge=1, description="LoRA rank")
    alpha: float = Field(16.0, gt=0, description="LoRA alpha: updates are scaled by alpha / rank")
    targets: tuple[str, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0"), description="UNet modules that get an adapter"
    )
    schedule: Literal["linear", "constant"] = Field(
        "linear", description="of the learning rate: linear falls to a tenth of it, constant stays"
    )
    train_text_encoder: bool = Field(
        False, description="also put an adapter of that rank and alpha on the text encoder's attention"
    )

    @property
    def trains_text(self) -> bool:
        return self.train_text_encoder


class Sampling(BaseModel):
    """DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095) with classifier-free guidance."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: int = Field(25, ge=1, description="sampler steps")
    guidance: float = Field(7.5, ge=0, description="classifier-free guidance scale")


class Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    grayscale: bool = Field(False, description="the base knows gray photos only: references are converted to gray")
    trained_on: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="datasets whose people it was trained on, with their names; no names: all of them",
    )
    judges: tuple[str, ...] = Field(
        (), description="networks in whose features its training minimized a distance, such as efficientnet_lite0"
    )
    frame: float = Field(
        1.6,  # the whole head; Stable Diffusion was trained on photos of every framing
        ge=1,
        le=10,
        description="side of the square around a reference photo's face, in units of the face box's longer side",
    )
    prompts: Prompts = Field(default_factory=lambda: Prompts.model_validate({}))
    lora: LoraSettings = Field(default_factory=lambda: LoraSettings.model_validate({}))
    sampling: Sampling = Field(default_factory=lambda: Sampling.model_validate({}))


def read_recipe(folder: Path) -> Recipe:
    """The folder's recipe, or the Stable Diffusion defaults. Raises UserError naming the key that is wrong."""
    path = folder / FILE
    if not path.is_file():
        return Recipe.model_validate({})
    try:
        return Recipe.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not a valid recipe: {error}".replace("\n", " ")) from error
