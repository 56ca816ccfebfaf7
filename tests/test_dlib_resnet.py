import numpy as np
import pytest
import torch

from iddmbench.errors import UserError
from iddmbench.nets.dlib_file import read_dlib
from iddmbench.nets.dlib_resnet import FILE, PACKAGE, DlibResNet
from iddmbench.wheel_files import wheel_file


@pytest.fixture(scope="module")
def path():
    return wheel_file(PACKAGE, FILE)


@pytest.fixture(scope="module")
def net():
    return DlibResNet()


def test_equals_dlib(net, path):
    dlib = pytest.importorskip("dlib")
    chips = np.random.default_rng(0).integers(0, 256, (3, 150, 150, 3), dtype=np.uint8)
    chips[1] = np.linspace(0, 255, 150, dtype=np.uint8)[:, None, None]
    model = dlib.face_recognition_model_v1(str(path))
    wanted = np.array([np.array(model.compute_face_descriptor(np.ascontiguousarray(chip))) for chip in chips])
    crops = torch.from_numpy(chips).permute(0, 3, 1, 2).float() / 255
    assert np.abs(net.features(crops).numpy() - wanted).max() < 1e-4
    unit = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
    assert np.abs(net(crops).numpy() - unit).max() < 1e-4


def test_architecture(path, net):
    network = read_dlib(path)
    assert network.size == 150 and np.allclose(network.mean, [122.782, 117.001, 104.298], atol=1e-4)
    assert sum(layer.kind == "con" for layer in network.layers) == 29
    assert len(net.blocks) == 14 and not any(p.requires_grad for p in net.parameters())


def test_gradient_flows(net):
    x = torch.rand(1, 3, 150, 150, requires_grad=True)
    net(x)[0, 0].backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().max() > 0


def test_no_dropout_no_stochastic_embeddings(net):
    with pytest.raises(UserError, match="dropout"):
        net.embed_stochastic(torch.rand(1, 3, 150, 150), 2, torch.Generator())


@pytest.mark.parametrize("length", [0, 100, 320, 5000, 60_000, 22_000_000])
def test_cut_files_are_user_errors(path, tmp_path, length):
    cut = tmp_path / "cut.dat"
    cut.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"cut\.dat"):
        DlibResNet(cut)


def test_damaged_files_are_user_errors(path, tmp_path):
    data = bytearray(path.read_bytes())
    damaged = tmp_path / "damaged.dat"
    for offset in (320, 341, 345, 19_400):
        copy = data.copy()
        copy[offset : offset + 4] = b"\xff\xff\xff\xff"
        damaged.write_bytes(copy)
        try:
            DlibResNet(damaged)
        except UserError:
            continue
        # a weight was hit: nothing but a checksum can tell
        assert offset == 19_400
    other = wheel_file(PACKAGE, "models/shape_predictor_5_face_landmarks.dat")
    with pytest.raises(UserError, match="not a readable dlib network"):
        DlibResNet(other)
    with pytest.raises(UserError, match="can't be read"):
        DlibResNet(tmp_path / "absent.dat")
