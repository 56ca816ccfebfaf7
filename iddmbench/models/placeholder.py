"""A placeholder token: a new word of a base's prompts, with vectors of its own in the space of the token embeddings."""

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from iddmbench.errors import UserError

if TYPE_CHECKING:
    from iddmbench.models.base import BaseModel


@dataclass(frozen=True, eq=False)
class Placeholder:
    """token: as it is written ("<subject>"); words: what it stands for in prompts ("sks"); vectors: float [V, width], read as
    the tokens "<subject>", "<subject>_1" ... in a row."""

    token: str
    words: str
    vectors: Tensor


class Vocabulary:
    """A base's tokenizer with a placeholder added; the base's own is left alone.

    Raises UserError when the tokenizer knows the token already, or does not keep it whole.
    """

    def __init__(self, tokenizer: Any, token: str, words: str, count: int = 1):
        names = [token, *(f"{token}_{k}" for k in range(1, count))]
        self.first, self.words, self.written = len(tokenizer), words, " ".join(names)
        self.tokenizer = copy.deepcopy(tokenizer)
        known = len(tokenizer(token, add_special_tokens=False).input_ids) == 1
        if known or self.tokenizer.add_tokens(names) != count:
            raise UserError(
                f"placeholder '{token}' is in the base's vocabulary already: choose another word, as <name>"
            )
        found = self.tokenizer(self.written, add_special_tokens=False).input_ids
        if found != [*range(self.first, self.first + count)]:
            raise UserError(
                f"placeholder '{token}' is not kept whole by the base's tokenizer: choose another, as <name>"
            )

    def tokens(self, prompts: list[str]) -> Tensor:
        """Token ids, int [len(prompts), tokens], with the placeholder in place of the words that it stands for."""
        replaced = [re.sub(rf"(?<!\w){re.escape(self.words)}(?!\w)", lambda _: self.written, p) for p in prompts]
        return self.tokenizer(replaced, padding="max_length", truncation=True, return_tensors="pt").input_ids


@contextmanager
def reading(base: "BaseModel", placeholder: Placeholder | None) -> Iterator[None]:
    """In between, the base's prompts are read with the placeholder, differentiably in its vectors. Nothing of it is written to,
    so that all other rows of the token embeddings stay what they are."""
    if placeholder is None:
        yield
        return
    vectors = placeholder.vectors.to(base.device)
    known = Vocabulary(base.tokenizer, placeholder.token, placeholder.words, len(vectors))
    seen: list[Tensor] = []

    def known_ids(module: Any, inputs: tuple[Tensor, ...]) -> Tensor:
        seen.append(inputs[0])
        return inputs[0].clamp(max=known.first - 1)

    def with_vectors(module: Any, inputs: Any, embedded: Tensor) -> Tensor:
        ids = seen.pop()
        return torch.where((ids >= known.first)[..., None], vectors[(ids - known.first).clamp(min=0)], embedded)

    embedding: Any = base.text_encoder.get_input_embeddings()
    hooks = [embedding.register_forward_pre_hook(known_ids), embedding.register_forward_hook(with_vectors)]
    before, base.vocabulary = base.vocabulary, known
    try:
        yield
    finally:
        base.vocabulary = before
        for hook in hooks:
            hook.remove()
