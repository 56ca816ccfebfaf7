"""The base's denoising error: what it is of pictures, and how runs hold it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_base import write_base

import iddmbench as ib
from iddmbench.cells.denoising import STEPS, denoising_errors
from iddmbench.datasets.orl import photo
from iddmbench.faces.detect import YuNet
from iddmbench.models.base import BaseModel, load_base
from iddmbench.photos.references import crop_photo
from iddmbench.results.metric_info import metric
from iddmbench.results.per_subject import subject_values
from iddmbench.results.summary import Summary
from iddmbench.seeds import Seeds


@pytest.fixture(scope="module")
def micro() -> BaseModel:
    return load_base("micro")


@pytest.fixture(scope="module")
def photos(micro: BaseModel) -> np.ndarray:
    detector = YuNet()
    cut = [crop_photo(photo(person, k), micro, detector) for person in range(1, 9) for k in (1, 2)]
    return np.stack([one for one in cut if one is not None])


def test_spoiled_faces_have_more(micro: BaseModel, photos: np.ndarray) -> None:
    usual = denoising_errors(micro, photos)
    assert usual.shape == (len(photos),) and (usual > 0).all()
    assert np.array_equal(denoising_errors(micro, photos), usual)
    assert denoising_errors(micro, photos[3:4])[0] == pytest.approx(usual[3], rel=1e-4)  # whatever stands beside it
    assert denoising_errors(micro, photos[:0]).shape == (0,)
    patched, turned = photos.copy(), photos.copy()
    patched[:, 24:40, 20:32] = patched[:, 24:40, 32:44]  # half of the face twice
    turned[:, 20:52, 16:48] = turned[:, 20:52, 16:48][:, ::-1]
    noise = np.clip(photos + 20 * np.random.default_rng(0).normal(size=photos.shape[:3])[..., None], 0, 255).astype(
        np.uint8
    )
    for spoiled in (patched, turned, noise):
        assert (denoising_errors(micro, spoiled) > usual).mean() > 0.9
    assert (denoising_errors(micro, noise) / usual).mean() > 1.3


def test_it_is_the_training_loss(micro: BaseModel, photos: np.ndarray) -> None:
    """By hand, with diffusers' own scheduler, for one picture."""
    generator = Seeds(0).child("denoising").torch()
    with torch.inference_mode():
        pixels = torch.from_numpy(photos[:1]).permute(0, 3, 1, 2).float() / 255
        z = micro.encode(pixels)
        text = micro.embed_text(["a photo of person"])
        losses = []
        for t in (int(1000 * share) for share in STEPS for _ in range(2)):
            e = torch.randn(z.shape, generator=generator)
            a = micro.scheduler.alphas_cumprod[t]
            noisy = a.sqrt() * z + (1 - a).sqrt() * e
            target = a.sqrt() * e - (1 - a).sqrt() * z if "v_pred" in micro.scheduler.config.prediction_type else e
            losses.append(((micro.unet(noisy, t, text).sample - target) ** 2).mean().item())
    assert denoising_errors(micro, photos[:1])[0] == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.fixture(scope="module")
def finished(plugins: None, tmp_path_factory: pytest.TempPathFactory) -> ib.Result:
    place = tmp_path_factory.mktemp("run")
    settings = {"dataset": "tiny-orl", "base": str(write_base(place / "base")), "images_per_prompt": 1}
    return ib.run("echo", strengths=[1.0], attackers=["coarse"], out=place / "out", cache=place / "cache", **settings)


def test_runs_hold_it_in_units_of_photos(finished: ib.Result) -> None:
    """One for each image, one figure with an interval, and differences by person."""
    summary = Summary(finished.folder)
    condition = next(c for c in summary.conditions if c.defense == "echo")
    assert (condition.rows(finished.folder.images)["denoising_error"] > 0).all()
    found = summary.get(condition, "denoising_error")
    assert found is not None and found.low <= found.value <= found.high
    means = subject_values(summary, condition, "denoising_error")
    assert found.value == pytest.approx(np.mean(list(means.values())))
    assert metric("denoising_error").better == "lower"
    compared = ib.compare(finished.at("echo-1.00"), finished.at("none"), "denoising_error")
    assert compared.difference.subjects == len(means)


def test_images_of_another_size_have_none(finished: ib.Result, tmp_path: Path) -> None:
    """Nor have those of an unknown base: enlarging them would change what is measured."""
    small = {s: finished.folder.pictures("images", "echo-1.00", s) for s in ("s29", "s30")}
    large = {s: [cv2.resize(x, None, fx=2, fy=2) for x in images] for s, images in small.items()}
    options = {"dataset": "tiny-orl", "attackers": "coarse", "cache": tmp_path / "cache"}
    base = finished.folder.config["base"]
    for images, known in ((small, base), (large, base), (small, None)):
        found = ib.evaluate(images, **options, **({"base": known} if known else {}))
        values = found.folder.images["denoising_error"]
        assert values.isna().all() if images is large or known is None else values.notna().all()
        assert found.utility.denoising_error.known == values.notna().all()
