"""The colour base that ships: it holds the faces of people whom it never saw, and draws what it is asked for."""

import numpy as np
import pytest
import torch

from iddmbench.datasets.synthetic import Synthetic
from iddmbench.faces.detect import YuNet
from iddmbench.models.base import BaseModel, load_base
from iddmbench.personalize.sample import generate
from iddmbench.personalize.trainer import PersonalizedModel
from iddmbench.photos.references import crop_references
from iddmbench.seeds import Seeds


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("micro-rgb")


def test_it_is_the_base_of_the_dataset(base: BaseModel) -> None:
    assert Synthetic.base == base.name and base.side == 64 and not base.recipe.grayscale


def test_its_autoencoder_holds_a_subjects_photos(base: BaseModel) -> None:
    crops = crop_references(Synthetic(part="tuning").load().subjects[0], base, YuNet())
    pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        error = (base.decode(base.encode(pixels)).clamp(0, 1) - pixels).abs().mean()
    assert error < 0.03


def test_it_draws_faces_in_colour(base: BaseModel) -> None:
    images = generate(
        base, PersonalizedModel(None, base.recipe.lora), ["a photo of person"], 4, base.recipe.sampling, Seeds(0)
    )
    assert YuNet().detect(list(images)).found.mean() >= 0.75
    assert np.ptp(images.astype(int), axis=-1).mean() > 10
