"""A textual-inversion embedding as a file: diffusers' own layout, and what else a single word's vectors are found in."""

from pathlib import Path

from safetensors.torch import save_file

from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel
from iddmbench.models.placeholder import Placeholder, Vocabulary
from iddmbench.models.recipe import trigger_words
from iddmbench.personalize.imported import ImportedModel, check_finite
from iddmbench.personalize.tensor_file import read_tensor_file
from iddmbench.personalize.trainer import PersonalizedModel

FILE = "learned_embeds.safetensors"
"""The name that `load_textual_inversion(FOLDER)` looks for."""
STANDS_FOR = "iddmbench.stands_for"
"""Metadata: the words of prompts that the placeholder is put for."""
WEB_UI = "emb_params"
"""How web UIs call the vectors; the word is then the file's name."""


def write_embedding(path: Path, placeholder: Placeholder, metadata: dict[str, str]) -> None:
    """The vectors, float [V, width], under the placeholder's name, as diffusers' example script stores them."""
    vectors = placeholder.vectors.detach().float().cpu().contiguous()
    save_file({placeholder.token: vectors}, path, metadata={"format": "pt", STANDS_FOR: placeholder.words, **metadata})


def embedding_file(path: Path) -> Path | None:
    """The file that holds a word's vectors and nothing else; None where `path` is something else."""
    file = path / FILE if path.is_dir() else path
    if not file.is_file() or file.suffix != Path(FILE).suffix:
        return None
    if file.name == FILE:
        return file
    tensors, _ = read_tensor_file(file)
    if len(tensors) != 1:
        return None
    ((name, tensor),) = tensors.items()
    return file if tensor.ndim in (1, 2) and "." not in name else None  # names of weights have dots


def read_embedding(path: Path, base: BaseModel) -> ImportedModel:
    """A word that was trained elsewhere, for `base`.

    In prompts it is put for the words that the file names, or else for those that name the subject in the base's prompts (sks);
    a prompt may also have the word itself.

    Raises UserError for several words, vectors of another width, or not finite, and for a word that the base knows already.
    """
    tensors, metadata = read_tensor_file(path)
    if {"clip_l", "clip_g"} & set(tensors):
        raise UserError(f"{path} is an embedding of Stable Diffusion XL, which is not supported: bases are SD 1, SD 2")
    if len(tensors) != 1:
        raise UserError(f"{path} holds the vectors of {len(tensors)} words: give a file with one")
    ((token, vectors),) = tensors.items()
    if token == WEB_UI:
        token = path.stem
    check_finite(tensors, str(path))
    width = base.text_encoder.get_input_embeddings().embedding_dim
    if vectors.ndim not in (1, 2) or vectors.shape[-1] != width or vectors.numel() == 0:
        found = " x ".join(map(str, vectors.shape))
        raise UserError(f"{path} is for another base: its vectors are {found}, base '{base.name}' takes ... x {width}")
    vectors = vectors.float().reshape(-1, width)
    words = metadata.get(STANDS_FOR) or " ".join(trigger_words(base.recipe.prompts))
    try:
        Vocabulary(base.tokenizer, token, words, len(vectors))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    model = PersonalizedModel(None, base.recipe.lora, placeholder=Placeholder(token, words, vectors))
    return ImportedModel(model, str(path), "textual inversion", 1, trigger=words)
