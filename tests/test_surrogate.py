import numpy as np
import pytest
import torch

from iddmbench.attacker import ATTACKERS
from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError
from iddmbench.faces.detect import Faces
from iddmbench.nets.surrogate import Surrogate


@pytest.fixture(scope="module")
def attacker():
    return ATTACKERS.get("sface")()


@pytest.fixture(scope="module")
def surrogate(attacker):
    return Surrogate(attacker.network(), attacker.detector)


@pytest.fixture(scope="module")
def images():
    return [photo(person, index).image for person, index in ((29, 1), (29, 2), (35, 1))]


def pixels(images):
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def test_sees_what_the_attacker_sees(attacker, surrogate, images):
    vectors = surrogate.embed(pixels(images), surrogate.prepare(images))
    assert np.abs(vectors.numpy() - attacker.embed(images).vectors).max() < 1e-5


def test_a_gradient_step_moves_the_attacker(attacker, surrogate, images):
    matrices = surrogate.prepare(images[:1])
    anchor = surrogate.template(images[1:2])
    x = pixels(images[:1])
    for _ in range(3):
        x = x.detach().requires_grad_(True)
        (surrogate.embed(x, matrices) @ anchor).sum().backward()
        x = (x - 2 / 255 * x.grad.sign()).clamp(0, 1)
    changed = (x[0].detach().permute(1, 2, 0) * 255).round().byte().numpy()
    before, after = (attacker.embed([image]).vectors[0] @ anchor.numpy() for image in (images[0], changed))
    assert after < before - 0.2


def test_one_matrix_serves_a_batch(surrogate, images):
    matrices = surrogate.prepare(images[:1])
    batch = pixels([images[0], images[0]])
    vectors = surrogate(batch, matrices)
    assert torch.allclose(vectors[0], vectors[1], atol=1e-6)


def test_template_is_the_unit_mean(surrogate, images):
    vectors = surrogate.embed(pixels(images[:2]), surrogate.prepare(images[:2]))
    wanted = torch.nn.functional.normalize(vectors.mean(0), dim=0)
    assert torch.allclose(surrogate.template(images[:2]), wanted, atol=1e-5)
    assert surrogate.dim == 128 and surrogate.name == "sface"


def test_missing_faces_are_listed(surrogate, images):
    blank = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(UserError, match=r"image 1, 2 .*of 3"):
        surrogate.prepare([images[0], blank, blank])
    none = Faces(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0), np.zeros(0, bool), np.zeros(0, int))
    with pytest.raises(ValueError, match="1 images, but faces of 0"):
        surrogate.prepare(images[:1], none)


def test_each_photos_template_is_computed_once(surrogate, images, monkeypatch):
    first = surrogate.each_template(images[:3])
    assert torch.equal(first, torch.stack([surrogate.template([image]) for image in images[:3]]))
    monkeypatch.setattr(surrogate, "template", lambda photos: pytest.fail("computed again"))
    assert torch.equal(surrogate.each_template(images[1:3]), first[1:])
