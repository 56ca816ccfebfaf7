"""Purifiers: each does what it says, image by image, and repeatably."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.restoration import denoise_tv_chambolle
from tiny_base import same, state
from torchvision.transforms.v2.functional import gaussian_blur

from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel, load_base
from iddmbench.personalize.sample import to_images
from iddmbench.perturb.purifier import TRIED, own_seeds, purifier
from iddmbench.perturb.purify import total_variation
from iddmbench.seeds import Seeds


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([photo(person, 1).image[:64, :64] for person in (29, 30, 31)])


NAMES = (*TRIED, "gaussian-7", "diffpure-0.02", "upscale:factor=3")


@pytest.mark.parametrize("name", NAMES)
def test_every_purifier_keeps_to_the_interface(name: str, base: BaseModel, images: np.ndarray) -> None:
    before, weights, seeds = images.copy(), state(base), Seeds(3)
    made = purifier(name)
    assert made.label == name and made.title
    first = made(images, seeds, base)
    torch.manual_seed(5)
    assert first.dtype == np.uint8 and first.shape == images.shape and not np.array_equal(first, images)
    assert np.array_equal(first, made(images, seeds, base)), "the same seeds give the same images"
    alone = np.concatenate([made(images[i : i + 1], seeds, base) for i in (2, 0)])
    # A network's sums may be taken in another order for another batch: one gray level.
    tolerance = 1 if made.needs_base else 0
    assert np.abs(alone.astype(int) - first[[2, 0]]).max() <= tolerance, "and each image is on its own"
    assert np.array_equal(images, before) and same(state(base), weights)
    assert made(images[:0], seeds, base).shape == (0, 64, 64, 3)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_other_than_the_base(name: str, base: BaseModel) -> None:
    odd = np.stack([photo(29, 1).image, photo(29, 2).image])[:, :111]
    assert purifier(name)(odd, Seeds(0), base).shape == (2, 111, 92, 3)


def test_jpeg_is_jpeg(images: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(images[0]).save(buffer, "JPEG", quality=50)
    assert np.array_equal(purifier("jpeg-50")(images[:1], Seeds(0))[0], np.asarray(Image.open(buffer)))
    errors = [np.abs(purifier(f"jpeg-{q}")(images, Seeds(0)).astype(int) - images).mean() for q in (90, 50, 10)]
    assert errors[0] < errors[1] < errors[2]


def test_blur_has_its_width() -> None:
    """Of a line: the second moment of the result is sigma squared."""
    line = np.zeros((1, 41, 41, 3), np.uint8)
    line[0, :, 20] = 255
    x = np.arange(41) - 20.0
    for sigma in (1.0, 2.0):
        row = purifier(f"blur-{sigma:g}")(line, Seeds(0))[0, :, :, 0].astype(float).sum(0)
        assert (row * x**2).sum() / row.sum() == pytest.approx(sigma**2, rel=0.15)


def test_resize_keeps_what_is_smooth(images: np.ndarray) -> None:
    checks = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (16, 16))[None, ..., None].repeat(3, 3)
    assert np.abs(purifier("resize-2")(checks, Seeds(0)).astype(int) - 128).max() <= 1
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, None, :, None] * 4, (1, 64, 64, 3)).copy()
    assert np.abs(purifier("resize-2")(ramp, Seeds(0)).astype(int) - ramp)[:, :, 4:-4].max() <= 4


def test_total_variation_against_scikit_image(images: np.ndarray) -> None:
    """Another implementation of Chambolle's method; both converge to the one minimum."""
    noisy = images[0, :, :, 0].astype(float) / 255 + Seeds(0).numpy().normal(0, 0.1, (64, 64))
    ours = total_variation(noisy[..., None], 0.1, 2000)[..., 0]
    theirs = denoise_tv_chambolle(noisy, weight=0.1, eps=1e-12, max_num_iter=5000)
    assert np.abs(ours - theirs).max() < 2e-3
    quick = total_variation(noisy[..., None], 0.1, 100)[..., 0]
    assert np.abs(quick - ours).max() < 0.02, "the iterations that are used come near it"


def test_sdedit_moves_further_with_more_noise() -> None:
    """On the shipped base: the image stays, its noise goes."""
    base = load_base("micro")
    photos = np.stack([photo(29, k).image[10:102, :92] for k in (1, 2)])
    clean = np.stack([np.asarray(Image.fromarray(p).resize((64, 64))) for p in photos])
    results = {level: purifier(f"sdedit-{level}")(clean, Seeds(0), base) for level in (0.1, 0.3, 0.6)}
    change = [np.abs(x.astype(int) - clean).mean() for x in results.values()]
    assert change[0] < change[1] < change[2]
    assert np.corrcoef(results[0.1].ravel(), clean.ravel())[0, 1] > 0.9
    other = purifier("sdedit-0.3")(clean, Seeds(1), base)
    assert not np.array_equal(other, results[0.3])


@pytest.mark.parametrize(
    "name", ["jpg-75", "jpeg-", "jpeg-x", "jpeg-0", "blur-0", "resize-1", "sdedit-1", "gaussian-6", ""]
)
def test_a_wrong_name_says_what_is_wrong(name: str) -> None:
    with pytest.raises(UserError, match=f"purifier '{name}'"):
        purifier(name)


def test_wrong_input(images: np.ndarray) -> None:
    with pytest.raises(TypeError, match="uint8"):
        purifier("jpeg-75")(images / 255.0, Seeds(0))
    with pytest.raises(ValueError, match="N, H, W, 3"):
        purifier("jpeg-75")(images[0], Seeds(0))
    with pytest.raises(ValueError, match="needs the base"):
        purifier("sdedit-0.1")(images, Seeds(0))


def test_gaussian_by_its_window(images: np.ndarray) -> None:
    """Of 7 pixels the deviation is 1.4, as in torchvision; inside, where edges play no part."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    wanted = gaussian_blur(x, [7, 7]).permute(0, 2, 3, 1).numpy()
    found = purifier("gaussian-7")(images, Seeds(0))
    assert np.abs(found.astype(int) - wanted)[:, 4:-4, 4:-4].max() <= 1
    assert np.abs(found.astype(int) - images).mean() > 2


def test_diffpure_is_ddpms_own_sampler(base: BaseModel, images: np.ndarray) -> None:
    """Against the ancestral step written out, with the same noise."""
    count, image = 1000, images[:1]
    generator = own_seeds(Seeds(2), image[0]).torch()
    alphas = base.scheduler.alphas_cumprod.double()
    condition = base.embed_text([base.recipe.prompts.class_])
    with torch.inference_mode():
        x = base.encode(torch.from_numpy(image).permute(0, 3, 1, 2) / 255)
        steps = list(range(19, -1, -1))
        a = alphas[steps[0]]
        x = a.sqrt() * x + (1 - a).sqrt() * torch.randn(x.shape[1:], generator=generator)[None]
        for t in steps:
            a, b = alphas[t], alphas[t - 1] if t else torch.ones(())
            seen = base.unet(x.float(), t, condition).sample.double()
            start = a.sqrt() * x - (1 - a).sqrt() * seen  # the base predicts velocity
            beta = 1 - a / b
            mean = (b.sqrt() * beta * start + (a / b).sqrt() * (1 - b) * x) / (1 - a)
            fresh = torch.randn(x.shape[1:], generator=generator)[None]
            x = mean + ((1 - b) / (1 - a) * beta).sqrt() * fresh
        wanted = to_images(base, x.float())
    assert base.scheduler.config.num_train_timesteps == count
    found = purifier("diffpure-0.02")(image, Seeds(2), base)
    assert np.abs(found.astype(int) - wanted).max() <= 2


def test_upscale_loses_detail_and_keeps_the_picture(base: BaseModel, images: np.ndarray) -> None:
    seen = purifier("upscale:factor=4")(images, Seeds(0), base).astype(int)
    again = purifier("sdedit-0.1")(images, Seeds(0), base).astype(int)
    assert np.abs(np.diff(seen, axis=2)).mean() < np.abs(np.diff(again, axis=2)).mean()
    assert np.corrcoef(seen.ravel(), images.ravel())[0, 1] > 0.8
