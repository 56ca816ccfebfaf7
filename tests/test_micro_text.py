"""Captions and tokenizer of the embedded base, and the attributes that captions and adherence share."""

from pathlib import Path

import numpy as np
import pytest
from transformers import CLIPTokenizer

from iddmbench.errors import UserError
from iddmbench.faces.attributes import (
    BACKDROPS,
    FRAMINGS,
    LIGHTS,
    POSES,
    SMILES,
    attributes,
    caption,
    mouth_whiteness,
    portrait,
)
from iddmbench.micro.domain import get_domain
from iddmbench.micro.gray import GRAY
from iddmbench.micro.rgb import AGES, RGB
from iddmbench.micro.text import MAX_TOKENS, RARE, name_word, random_caption, save_tokenizer


@pytest.fixture(scope="module", params=[GRAY, RGB], ids=lambda domain: domain.name)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder, request.param.words)
    folder.joinpath("domain").write_text(request.param.name)
    return CLIPTokenizer.from_pretrained(folder)


def test_every_caption_word_is_one_token(tokenizer: CLIPTokenizer) -> None:
    domain = get_domain(Path(tokenizer.name_or_path, "domain").read_text())
    said = {
        "micro": (*(name_word(p) for p in range(1, 29)), *POSES, *FRAMINGS, *LIGHTS),
        "micro-rgb": (*POSES, *SMILES, *LIGHTS, *BACKDROPS, *(word for _, word in AGES), "man", "woman"),
    }[domain.name]
    words = {"a", "photo", "of", "person", *RARE, *" ".join(said).replace("-", " ").split()}
    for word in words:
        assert len(tokenizer(word).input_ids) == 3, word  # with start and end
    tokens = {tuple(tokenizer(word).input_ids) for word in words}
    assert len(tokens) == len(words)


def test_names_are_distinct() -> None:
    names = {name_word(p) for p in range(1, 29)}
    assert len(names) == 28 and not names & set(RARE)


def test_files_are_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_tokenizer(tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert {"vocab.json", "merges.txt"} <= set(files)
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


@pytest.mark.parametrize("text", ["", "żółć 猫 🙂", "a\x00b\n\t", "SKS Person!?", "مرحبا", "x" * 500])
def test_any_text_can_be_encoded(tokenizer: CLIPTokenizer, text: str) -> None:
    ids = tokenizer(text, padding="max_length", truncation=True).input_ids
    assert len(ids) == MAX_TOKENS and max(ids) < len(tokenizer)


def landmarks(yaw: float = 0.0, span: float = 0.38) -> np.ndarray:
    distance = 100 * span
    eyes = [[50 - distance / 2, 40], [50 + distance / 2, 40]]
    return np.array([*eyes, [50 + yaw * distance, 55], [40, 70], [60, 70]])


def test_attributes_at_their_thresholds() -> None:
    gray = np.full((100, 100, 3), 120, np.uint8)
    assert attributes(gray, landmarks()) == ("facing forward", "medium", "soft light")
    for yaw, pose in ((-0.07, POSES[0]), (-0.05, POSES[1]), (0.05, POSES[1]), (0.07, POSES[2])):
        assert attributes(gray, landmarks(yaw))[0] == pose
    for span, framing in ((0.33, FRAMINGS[0]), (0.35, FRAMINGS[1]), (0.41, FRAMINGS[1]), (0.43, FRAMINGS[2])):
        assert attributes(gray, landmarks(span=span))[1] == framing
    for level, light in ((108, LIGHTS[0]), (109, LIGHTS[1]), (136, LIGHTS[1]), (137, LIGHTS[2])):
        assert attributes(np.full_like(gray, level), landmarks())[2] == light
    swapped = landmarks(0.2)[[1, 0, 2, 3, 4]]
    assert attributes(gray, swapped) == attributes(gray, landmarks(0.2))


@pytest.mark.parametrize("yaw", [-0.3, -0.1, 0.0, 0.1, 0.3])
def test_a_mirror_swaps_left_and_right(yaw: float) -> None:
    gray = np.full((100, 100, 3), 120, np.uint8)
    points = landmarks(yaw)
    mirrored = points * (-1, 1) + (99, 0)
    swapped = {POSES[0]: POSES[2], POSES[1]: POSES[1], POSES[2]: POSES[0]}
    one, two = attributes(gray, points), attributes(gray[:, ::-1], mirrored)
    assert two == (swapped[one[0]], *one[1:])


def test_portraits_at_their_thresholds() -> None:
    gray = np.full((100, 100, 3), 120, np.uint8)
    points = landmarks()
    assert portrait(gray, points) == ("facing forward", SMILES[0], "soft light", BACKDROPS[1])
    teeth = gray.copy()
    teeth[66:76, 40:61] = 180
    assert portrait(teeth, points)[1] == SMILES[1] and mouth_whiteness(teeth, points) == pytest.approx(1.5)
    dim = gray.copy()
    dim[:25, :12] = dim[:25, -12:] = 100
    assert portrait(dim, points)[3] == BACKDROPS[0]
    assert mouth_whiteness(gray, points - 200) == 1  # landmarks outside the picture
    assert portrait(gray, landmarks(0.1))[0] == attributes(gray, landmarks(0.1))[0]


def test_an_unknown_base_is_named() -> None:
    with pytest.raises(UserError, match=r"'micro-rbg'.*micro-rgb"):
        get_domain("micro-rbg")


def test_captions() -> None:
    assert caption("sks person", ("facing left", "dark")) == "a photo of sks person, facing left, dark"
    rng = np.random.default_rng(0)
    drawn = [random_caption(name_word(3), ("facing left", "wide", "dark"), rng) for _ in range(400)]
    assert 0.05 < np.mean([text == "" for text in drawn]) < 0.16
    assert 0.4 < np.mean([name_word(3) in text for text in drawn]) < 0.7
    assert not any(name_word(4) in text for text in drawn)
    nameless = [random_caption("", ("smiling",), rng) for _ in range(400)]
    assert 0.1 < np.mean([any(word in text for word in RARE) for text in nameless]) < 0.35
