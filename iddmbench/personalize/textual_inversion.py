"""`textual-inversion`: a new word's vectors are trained, and nothing else."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel
from iddmbench.models.placeholder import Placeholder, Vocabulary, reading
from iddmbench.models.recipe import Recipe, TrainingSettings, trigger_words
from iddmbench.personalize.personalizer import Personalizer
from iddmbench.personalize.trainer import PersonalizedModel, Trainer
from iddmbench.seeds import Seeds


class TextualInversionSettings(TrainingSettings):
    steps: int = Field(5000, ge=1, description="optimizer steps")
    batch_size: int = Field(16, ge=1, description="reference images per step")
    learning_rate: float = Field(1e-4, gt=0, description="AdamW learning rate, the same at every step")
    prior_weight: float = Field(
        0.0,
        ge=0,
        le=0,
        description="always 0: class images have no placeholder in their prompt, so they teach it nothing",
    )
    placeholder: str = Field("<subject>", pattern=r"^\S+$", description="the new word, not in the base's vocabulary")
    stands_for: str = Field(
        "",
        description="words of the prompts that the placeholder is put for; by default those that name the subject (sks)",
    )
    initializer: str = Field(
        "", description="word whose vector the placeholder starts from; by default the class prompt's last (person)"
    )
    vectors: int = Field(1, ge=1, le=16, description="token vectors of the placeholder")

    @property
    def trains_text(self) -> bool:
        return True


class EmbeddingTrainer(Trainer):
    """Trains the placeholder's vectors, float32. As in diffusers' example script the rate is constant and gradients are not
    clipped; that one steps the whole embedding matrix and puts the other rows back, which gives these rows the same values."""

    clip = None

    @contextmanager
    def attached(self) -> Iterator[nn.Module]:
        s, embedding = self.settings, self.base.text_encoder.get_input_embeddings()
        start = embedding.weight[_initializer(self.base.tokenizer, s)].detach().float()
        self.vectors = nn.Parameter(start.expand(s.vectors, -1).clone())
        with reading(self.base, Placeholder(s.placeholder, s.stands_for, self.vectors)):
            yield self.base.unet

    def trained(self) -> list[nn.Parameter]:
        return [self.vectors]

    def rate(self) -> float:
        return self.settings.learning_rate

    def model(self) -> PersonalizedModel:
        vectors = self.vectors.detach().cpu().clone()
        placeholder = Placeholder(self.settings.placeholder, self.settings.stands_for, vectors)
        return PersonalizedModel(None, self.settings, placeholder=placeholder)


class TextualInversion(Personalizer):
    """Gal et al., arXiv 2208.01618, with the defaults of diffusers' example script.

    Photos are trained under the run's captions, not under that script's templates, without mirroring, and from the mean of the
    VAE's posterior instead of a draw, as with every personalizer here. A stored model is a few kilobytes.
    """

    name = "textual-inversion"
    title = "vectors of a new word"
    paper = "arXiv 2208.01618"
    Settings = TextualInversionSettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # The defaults of diffusers' examples/textual_inversion/textual_inversion.py.
        "diffusers": {"steps": 5000, "batch_size": 16, "learning_rate": 1e-4, "vectors": 1},
        # The command of the README beside it: four batches of 1 per step, and --scale_lr, which multiplies its 5e-4 by 4.
        "diffusers-guide": {"steps": 3000, "batch_size": 4, "learning_rate": 2e-3, "vectors": 1},
    }

    def defaults(self, recipe: Recipe) -> TextualInversionSettings:
        named, class_ = trigger_words(recipe.prompts), recipe.prompts.class_.split()
        return TextualInversionSettings.model_validate(
            {"stands_for": " ".join(named), "initializer": class_[-1] if class_ else ""}
        )

    def check(self, base: BaseModel, settings: Any) -> None:
        from transformers import CLIPTokenizer

        super().check(base, settings)
        prompts, words = base.recipe.prompts, settings.stands_for
        if not words or f" {words} " not in f" {prompts.instance} ":
            raise UserError(
                f"personalizer '{self.name}': stands_for='{words}' is not in the instance prompt '{prompts.instance}': give "
                "the words of it that the placeholder is put for"
            )
        tokenizer = CLIPTokenizer.from_pretrained(base.folder / "tokenizer")
        Vocabulary(tokenizer, settings.placeholder, words, settings.vectors)
        _initializer(tokenizer, settings)

    def trainer(self, base: BaseModel, settings: Any, class_latents: Tensor, seeds: Seeds) -> Trainer:
        return EmbeddingTrainer(base, settings, class_latents, seeds)

    def text(self, base: BaseModel, settings: Any, captions: list[str]) -> Tensor:
        known = Vocabulary(base.tokenizer, settings.placeholder, settings.stands_for, settings.vectors)
        return known.tokens(captions).to(base.device)

    def tensors(self, model: PersonalizedModel) -> dict[str, Tensor]:
        """As diffusers stores learned embeddings: the vectors under the placeholder's name."""
        return {model.placeholder.token: model.placeholder.vectors} if model.placeholder else {}

    def model(self, tensors: dict[str, Tensor], settings: Any) -> PersonalizedModel:
        placeholder = Placeholder(settings.placeholder, settings.stands_for, tensors[settings.placeholder])
        return PersonalizedModel(None, settings, placeholder=placeholder)


def _initializer(tokenizer: Any, settings: TextualInversionSettings) -> int:
    """The id of the initializer. Raises UserError when it is not one token."""
    ids = tokenizer(settings.initializer, add_special_tokens=False).input_ids
    if len(ids) != 1:
        pieces = f"{len(ids)} tokens" if ids else "no token"
        raise UserError(
            f"personalizer 'textual-inversion': initializer='{settings.initializer}' is {pieces} of the base's vocabulary: "
            "give one common word, as person"
        )
    return int(ids[0])
