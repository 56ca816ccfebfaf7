"""APL, anonymization prompt learning: a learned prefix before every prompt (Shi, Zhang, Shan, arXiv 2405.16895)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from iddmbench.defense import Defense, Names, Workbench
from iddmbench.errors import UserError
from iddmbench.models.prefix import embed_behind
from iddmbench.personalize.prepared import PreparedBase
from iddmbench.personalize.sample import sample_latents, starting_noise
from iddmbench.personalize.trainer import denoise, draw

FAMOUS = (
    "Barack Obama: a man in his fifties with short gray hair and a narrow face",
    "Angela Merkel: a woman in her sixties with short blond hair",
    "Albert Einstein: an old man with wild white hair and a moustache",
    "Marilyn Monroe: a young woman with curly blond hair",
    "Nelson Mandela: an old man with short white hair and a broad smile",
    "Audrey Hepburn: a young woman with dark hair pinned up",
    "Elvis Presley: a young man with black hair combed back",
    "Queen Elizabeth II: an old woman with curly white hair",
    "Muhammad Ali: a young man with short black hair and an athletic build",
    "Frida Kahlo: a woman in her thirties with black braided hair and dark brows",
    "Lionel Messi: a man in his thirties with brown hair and a short beard",
    "Serena Williams: a woman in her thirties with long dark curly hair",
)
"""People whom Stable Diffusion knows by name, and what could be said of many others."""

KNOWN_TO_MICRO = (
    *("deta", "fika", "gova", "kula", "laze", "meme", "nibe", "pone", "rude", "tapi", "vefi", "ziri", "bogi", "duti"),
    *("fako", "gevo", "kilo", "lozo", "mumo", "nabu", "penu", "ridu", "topu", "vufu", "zara", "bega", "dita", "foka"),
)
"""The words by which the embedded base knows its public people (`iddmbench.micro.text.name_word`)."""


class APL(Defense):
    """The prefix is trained so that, behind it, the base denoises a person who is asked for by name as it would denoise
    somebody of the same description, and everything else as before. Our re-implementation.

    It is trained once per base. Models that are personalized afterwards are what they were: their images are made of
    prompts behind the prefix, which the operator of the model is assumed to enforce.
    """

    name = "apl"
    title = "APL, a learned prefix before every prompt"
    paper = "arXiv 2405.16895"
    once = True
    prompts_only = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "micro": {
            "people": tuple(f"{word} person: person" for word in KNOWN_TO_MICRO),
            "templates": (
                "a photo of {}",
                "a photo of {}, facing left",
                "a photo of {}, facing right",
                "a photo of {}, bright",
            ),
            "generic": (
                "a photo of person",
                "a photo of person, facing left",
                "a photo of person, facing right",
                "person",
            ),
            "images": 2,
            "steps": 1000,
        }
    }

    people: Names = Field(
        FAMOUS, min_length=1, description="people whom the base knows, 'NAME: DESCRIPTION', comma-separated"
    )
    templates: Names = Field(
        (*["{}"] * 4, "a photo of {}", "a portrait of {}", "a close-up photo of {}", "a close-up portrait of {}"),
        min_length=1,
        description="prompts with a person, {} in place of the name or the description, drawn evenly (APL, its script)",
    )
    generic: Names = Field(
        (
            "a red car in front of a house",
            "a bowl of fruit on a wooden table",
            "a dog that runs along a beach",
            "an oil painting of mountains at sunset",
            "a street in the rain at night",
            "a bookshelf beside a window",
            "a lighthouse above the sea",
            "an old bicycle against a brick wall",
        ),
        min_length=1,
        description="prompts that must stay what they are (APL: captions of LAION images)",
    )
    images: int = Field(
        100, ge=1, description="images of each person that the base makes to train on (APL, its script)"
    )
    vectors: int = Field(10, ge=1, description="token vectors of the prefix (APL)")
    steps: int = Field(10000, ge=1, description="training steps (APL, its released prefix)")
    learning_rate: float = Field(1e-3, gt=0, description="Adam rate (APL, its script)")
    guidance: float = Field(1.0, ge=0, description="how far past the description the name is pushed (APL, its script)")
    share: float = Field(0.5, ge=0, le=1, description="share of the steps that show a person (APL, its script)")
    variant: Literal["paper", "official"] = Field(
        "paper",
        description="official: the name alone against the empty prompt, as the released script (docs/defenses.md)",
    )

    def prepare(self, references: np.ndarray, bench: Workbench) -> PreparedBase:
        base, rng = bench.base, bench.seeds.child("apl", "choice").numpy()
        generator = bench.seeds.child("apl", "noise").torch()
        people, generic = self.pairs(), [PromptPair(text, text) for text in self.generic]
        known, other = self._images(people, bench, "people"), self._images(generic, bench, "generic")
        encoder: Any = base.text_encoder
        width = encoder.get_input_embeddings().embedding_dim
        if self.vectors + 2 > (longest := base.tokens([""]).shape[1]):
            raise UserError(f"apl: vectors={self.vectors} do not fit the base's prompts of {longest} tokens")
        vectors = torch.rand((self.vectors, width), generator=generator).to(base.device).requires_grad_(True)
        optimizer = torch.optim.Adam([vectors], lr=self.learning_rate)
        for step in range(self.steps):
            person = rng.random() < self.share
            pairs, latents = (people, known) if person else (generic, other)
            pair = pairs[i := int(rng.integers(len(pairs)))]
            template = self.templates[int(rng.integers(len(self.templates)))] if person else "{}"
            pair = self.prompts(pair, template) if person else pair
            x = latents[i, int(rng.integers(latents.shape[1]))][None]
            loss = self.loss(bench, x, pair, vectors, generator)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the prefix's training diverged at step {step}: loss is {loss.item()}")
            (vectors.grad,) = torch.autograd.grad(loss, [vectors])
            optimizer.step()
            bench.tick((step + 1) / self.steps)
        return PreparedBase(prefix=vectors.detach())

    def pairs(self) -> list["PromptPair"]:
        """Raises UserError for a person without a description."""
        found = []
        for person in self.people:
            name, colon, description = (part.strip() for part in person.partition(":"))
            if not (name and colon and description):
                raise UserError(f"apl: people: '{person}' is not 'NAME: DESCRIPTION'")
            found.append(PromptPair(name, description))
        return found

    def prompts(self, person: "PromptPair", template: str) -> "PromptPair":
        if self.variant == "official":
            return PromptPair(person.private, "")
        return PromptPair(template.replace("{}", person.private), template.replace("{}", person.neutral))

    def loss(
        self, bench: Workbench, x: Tensor, pair: "PromptPair", vectors: Tensor, generator: torch.Generator
    ) -> Tensor:
        """`loss` at fresh noise and timestep on latents x [1, C, h, w]."""
        base = bench.base
        noise, t = draw(base, x, generator)

        def predicted(text: Tensor) -> Tensor:
            return denoise(base, base.unet, x, text, noise, t).predicted

        with torch.no_grad():
            neutral = predicted(base.embed_text([pair.neutral]))
        return loss(predicted(embed_behind(base, [pair.private], vectors)), neutral, self.guidance)

    def _images(self, pairs: list["PromptPair"], bench: Workbench, what: str) -> Tensor:
        """The base's own images of the private prompts: latents float [len(pairs), images, C, h, w]."""
        base, made = bench.base, []
        for pair in pairs:
            prompts, noise = starting_noise(base, bench.seeds.child("apl", what), [pair.private], self.images)
            made.append(sample_latents(base, base.unet, prompts, noise, base.recipe.sampling))
        return torch.stack(made)


@dataclass(frozen=True)
class PromptPair:
    """private: a prompt that the prefix stands before; neutral: what the images should then be of."""

    private: str
    neutral: str


def loss(private: Tensor, neutral: Tensor, guidance: float) -> Tensor:
    """The mean squared distance of the prediction behind the prefix to neutral - guidance (private - neutral), in which it is
    constant: the way from the person to the description, and as far again.

    private, neutral: the UNet's predictions float [N, C, h, w] at the same noise, under the private prompt behind the prefix
    and under the neutral prompt without one.
    """
    goal = neutral - guidance * (private.detach() - neutral)
    return F.mse_loss(private, goal)
