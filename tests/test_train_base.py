"""Training of the embedded base from scratch, on four photos and for two steps."""

from dataclasses import replace

import pytest
import torch

from iddmbench.datasets.orl import photo
from iddmbench.micro import build
from iddmbench.micro.domain import Original
from iddmbench.micro.gray import GRAY
from iddmbench.micro.text import name_word
from iddmbench.models.base import load_base


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    photos = [Original((p, k), photo(p, k).image[10:102], name_word(p)) for p in (1, 2) for k in (1, 2)]
    domain = replace(GRAY, originals=lambda faces: photos, views=1)
    lines: list[str] = []
    for steps in (1, 2):
        out, work = folder / f"out{steps}", folder / "work"
        build.train_base(out, work, steps, steps, domain=domain, log=lines.append)
    return folder, lines


def test_the_result_is_a_base_model_with_recipe_and_card(trained):
    base = load_base(str(trained[0] / "out2"))
    assert base.side == 64 and base.recipe.grayscale and base.recipe.prompts.instance == "a photo of sks person"
    latents = base.encode(torch.rand(2, 3, 64, 64))
    assert latents.shape == (2, 16, 8, 8) and base.decode(latents).shape == (2, 3, 64, 64)
    card = (trained[0] / "out2" / "README.md").read_text()
    assert "ORL" in card and "iddmbench train-base" in card and "2\n  steps" in card


def test_a_second_call_goes_on_from_the_checkpoint(trained):
    assert build.steps_done(trained[0] / "work" / "vae.pt") == 2
    assert build.steps_done(trained[0] / "work" / "unet.pt") == 2


def test_latents_are_scaled_to_unit_variance(trained):
    (line, *_) = [line for line in trained[1] if "scaling factor" in line]
    factor = float(line.split()[-1])
    assert load_base(str(trained[0] / "out1")).vae.config.scaling_factor == pytest.approx(factor, abs=1e-4)
