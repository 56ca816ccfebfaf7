"""Captions and tokenizer of the embedded base models.

The captions name what can be computed from an image (`iddmbench.faces.attributes`), so that the text condition means
something and prompt adherence can be measured with the same functions, plus one word per public person where a person has
many photos.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import pre_tokenizers

from iddmbench.faces.attributes import caption

RARE = ("sks", "zwx", "qyv", "hlt", "bnd", "xkj", "ohwx", "vrt")
"""Words that never name anyone: personalization binds a new person to one of them."""

COMMON = tuple(
    ["portrait", "dslr", "selfie", "image", "picture", "face", "man", "woman", "the", "in", "with", "at", "studio"]
)
"""Further words that prompts may hold."""

MAX_TOKENS = 32
START, END = "<|startoftext|>", "<|endoftext|>"


def name_word(person: int) -> str:
    """The word for public person 1-28: two consonant-vowel syllables, as digits are split by the tokenizer."""
    consonants, vowels = "bdfgklmnprtvz", "aeiou"
    return consonants[person % 13] + vowels[person % 5] + consonants[(person * 7 + 3) % 13] + vowels[(person // 5) % 5]


def random_caption(name: str, parts: Sequence[str], rng: np.random.Generator) -> str:
    """A training caption: the name ("": there is none) or not, each part or not; empty in one of ten, for guidance."""
    if rng.random() < 0.1:
        return ""
    draw = rng.random()
    if name and draw < 0.6:
        who = f"{name} person"
    elif draw < 0.7 if name else draw < 0.25:
        who = f"{RARE[rng.integers(len(RARE))]} person"
    else:
        who = "person"
    return caption(who, [part for part in parts if rng.random() < 0.5])


def word_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges under which each word becomes one token.

    Earlier merges have priority, so a word is first merged as the rules so far would, then what is left is joined from
    the left. Training the merges on counts would give the same words, but in an order that changes with each run.
    """
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        for left, right in merges:
            i = 0
            while i < len(pieces) - 1:
                if (pieces[i], pieces[i + 1]) == (left, right):
                    pieces[i : i + 2] = [left + right]
                i += 1
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces[:2] = [pieces[0] + pieces[1]]
    return merges


def save_tokenizer(folder: Path, words: Sequence[str] = COMMON) -> None:
    """Write vocab.json and merges.txt of a byte-level BPE in CLIP's format, in which each of `words` is one token.

    Every byte is in the vocabulary, alone and at a word's end, so any prompt can be encoded.
    """
    corpus = list(dict.fromkeys(["a", "photo", "of", "person", *RARE, *words]))
    merges = word_merges(corpus)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(c + "</w>" for c in alphabet), *("".join(m) for m in merges)]
    vocabulary = [*dict.fromkeys(tokens), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(
        json.dumps({token: k for k, token in enumerate(vocabulary)}, ensure_ascii=False), encoding="utf-8"
    )
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_TOKENS,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
