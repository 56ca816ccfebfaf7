import cv2
import numpy as np
import pytest
import torch

from iddmbench.faces.align import ARCFACE_112, crop, similarity


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def smooth(rng, height=120, width=100):
    return cv2.GaussianBlur(rng.random((height, width, 3)).astype(np.float32), (0, 0), 3)


def tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None]


def umeyama(source, target):
    """The general form, by singular values (Umeyama 1991, Eqs. 38 to 43)."""
    p, q = source - source.mean(0), target - target.mean(0)
    u, d, vt = np.linalg.svd(q.T @ p / len(p))
    sign = np.diag([1, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ sign @ vt
    scale = np.trace(np.diag(d) @ sign) / p.var(0).sum()
    return np.c_[scale * rotation, target.mean(0) - scale * rotation @ source.mean(0)]


def test_similarity_equals_umeyama(rng):
    faces = ARCFACE_112 * rng.uniform(0.3, 4, (20, 1, 1)) + rng.normal(0, 6, (20, 5, 2)) + 15
    found = similarity(faces, ARCFACE_112)
    assert found.dtype == np.float32
    for face, matrix in zip(faces, found, strict=True):
        assert np.allclose(matrix, umeyama(face, ARCFACE_112.astype(float)), atol=1e-4)


def test_similarity_recovers_a_known_transform():
    angle, scale = 0.4, 1.7
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    target = ARCFACE_112 @ turn.T + [3, -8]
    assert np.allclose(similarity(ARCFACE_112[None], target)[0], np.c_[turn, [3, -8]], atol=1e-4)


def test_similarity_refuses_what_it_cannot_fit():
    with pytest.raises(ValueError, match="coincide"):
        similarity(np.ones((1, 5, 2)), ARCFACE_112)
    with pytest.raises(ValueError, match=r"\(5, 2\)"):
        similarity(ARCFACE_112, ARCFACE_112)
    assert np.isnan(similarity(np.full((1, 5, 2), np.nan), ARCFACE_112)).all()


@pytest.mark.parametrize("scale", [0.8, 1.0, 2.3])
def test_crop_equals_opencv(rng, scale):
    image = smooth(rng)
    matrix = np.array([[scale, -0.2, 4.3], [0.2, scale, -7.1]], np.float32)
    wanted = cv2.warpAffine(image, matrix, (64, 64), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    got = crop(tensor(image), torch.from_numpy(matrix)[None], 64)[0].permute(1, 2, 0).numpy()
    # OpenCV rounds coordinates to 1/32 pixel, which tells most at the step to black
    assert np.abs(got - wanted).max() < 0.03 and np.abs(got - wanted).mean() < 1e-3


def test_identity_crop_is_the_image(rng):
    image = tensor(smooth(rng, 48, 48))
    assert torch.allclose(crop(image, torch.eye(2, 3)[None], 48), image, atol=1e-5)


def test_shrinking_averages(rng):
    noise = torch.from_numpy(rng.random((1, 3, 512, 512)).astype(np.float32))
    matrix = torch.tensor([[[0.125, 0, -0.4375], [0, 0.125, -0.4375]]])
    wanted = torch.nn.functional.avg_pool2d(noise, 8)
    got = crop(noise, matrix, 64)
    # plain bilinear sampling would keep a standard deviation above 0.14; the mean of 64 pixels has 0.036
    assert got.std() < 0.06
    assert (got - wanted).std() < 0.045


def test_each_image_is_cropped_on_its_own(rng):
    images = torch.cat([tensor(smooth(rng)) for _ in range(3)])
    matrices = torch.tensor([[[s, 0, 1.0], [0, s, 2.0]] for s in (0.2, 1.0, 0.5)])
    together = crop(images, matrices, 32)
    for row in range(3):
        assert torch.equal(together[row], crop(images[row : row + 1], matrices[row : row + 1], 32)[0])


@pytest.mark.parametrize("scale", [0.3, 1.5])
def test_crop_is_differentiable(rng, scale):
    images = torch.from_numpy(rng.random((2, 1, 5, 4))).requires_grad_(True)
    matrices = torch.tensor([[[scale, 0.1, 0.3], [-0.1, scale, 0.2]], [[1.1, 0, 0], [0, 1.1, 0]]])
    assert torch.autograd.gradcheck(lambda x: crop(x, matrices, 2), images)


def test_crop_refuses_masked_faces():
    with pytest.raises(ValueError, match="no face"):
        crop(torch.zeros(1, 3, 8, 8), torch.full((1, 2, 3), torch.nan), 4)
    with pytest.raises(ValueError, match="matrices"):
        crop(torch.zeros(2, 3, 8, 8), torch.zeros(1, 2, 3), 4)
