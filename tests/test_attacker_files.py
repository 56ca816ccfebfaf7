"""Attackers whose weights are a file: small files of the same format made here, good and bad ones."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from skimage.feature import local_binary_pattern
from sklearn.decomposition import PCA

from iddmbench.attacker import ATTACKERS, build_attacker
from iddmbench.datasets.orl import PUBLIC, photo
from iddmbench.errors import UserError
from iddmbench.faces.align import crop, similarity
from iddmbench.faces.detect import YuNet
from iddmbench.nets import sface as sface_net
from iddmbench.nets.eigenfaces import EigenfacesNet
from iddmbench.nets.gabor import GaborNet, magnitudes, wavelets
from iddmbench.nets.lbp import LBPHNet, SoftLBPHNet, patterns, uniform_bins
from iddmbench.nets.onnx_face import OnnxFace
from iddmbench.wheel_files import wheel_file

SFACE = wheel_file(sface_net.PACKAGE, sface_net.FILE)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IDDMBENCH_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def images() -> list[np.ndarray]:
    return [photo(person, k).image for person in (3, 30) for k in (1, 6)]


def network(
    path: Path,
    shape: tuple[object, ...] = ("N", 3, 112, 112),
    inputs: int = 1,
    dim: int = 16,
    value: float = 1.0,
    operator: str = "PRelu",
    last: bool = False,
) -> Path:
    """Conv 28 x 28 with stride 28, an activation, Flatten, Gemm. last: channels last, as deepface's files."""
    rng = np.random.default_rng(0)
    channels, flat = 4, 4 * 4 * 4
    weights = {
        "kernel": (rng.normal(size=(channels, 3, 28, 28)) / 48).astype(np.float32),
        "slope": np.full((channels, 1, 1), 0.25, np.float32),
        "matrix": (rng.normal(size=(dim, flat)) * value / 8).astype(np.float32),
        "bias": np.zeros(dim, np.float32),
    }
    source = "data"
    nodes = []
    if last:
        nodes.append(helper.make_node("Transpose", ["data"], ["first"], perm=[0, 3, 1, 2]))
        source = "first"
    for i in range(1, inputs):
        nodes.append(helper.make_node("Add", [source, f"more{i}"], [f"sum{i}"]))
        source = f"sum{i}"
    nodes += [
        helper.make_node("Conv", [source, "kernel"], ["c"], kernel_shape=[28, 28], strides=[28, 28]),
        helper.make_node(operator, ["c", "slope"] if operator == "PRelu" else ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "matrix", "bias"], ["out"], transB=1),
    ]
    given = [helper.make_tensor_value_info("data", TensorProto.FLOAT, shape)]
    given += [helper.make_tensor_value_info(f"more{i}", TensorProto.FLOAT, shape) for i in range(1, inputs)]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ("N", dim))
    used = {name for node in nodes for name in node.input}
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items() if name in used]
    graph = helper.make_graph(nodes, "net", given, [out], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


# ---- onnx:PATH ---------------------------------------------------------------------------------------------------------


def test_the_wheel_s_sface_is_an_onnx_attacker() -> None:
    """Found to scale its input itself; with B, G, R it is the attacker `sface`, number for number."""
    attacker = build_attacker(f"onnx:{SFACE},bgr")
    assert attacker.available() is None and attacker.dim == 128 and attacker.differentiable
    ours, theirs = attacker.embed(images()), build_attacker("sface").embed(images())
    assert np.abs(ours.vectors - theirs.vectors).max() < 1e-4
    assert attacker.fingerprint() != build_attacker(f"onnx:{SFACE}").fingerprint()
    assert type(attacker).dim == 0, "an instance's size is not the class's"


def test_torch_and_onnxruntime_agree(tmp_path: Path) -> None:
    """The same network in both engines; Elu is an operator that only onnxruntime knows."""
    pytest.importorskip("onnxruntime")
    crops = torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    net = OnnxFace(network(tmp_path / "a.onnx"))
    assert net.differentiable and net.dim == 16 and not net.raw
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"data": (crops * 2 - 1).numpy()})[0]
    np.testing.assert_allclose(net.features(crops).numpy(), expected, atol=1e-4)
    other = OnnxFace(network(tmp_path / "b.onnx", operator="Elu"))
    assert not other.differentiable
    attacker = build_attacker(f"onnx:{tmp_path / 'b.onnx'}")
    assert attacker.embed(images()).vectors.shape == (4, 16)
    with pytest.raises(UserError, match="not differentiable"):
        attacker.network()
    single = OnnxFace(network(tmp_path / "c.onnx", shape=(1, 3, 112, 112), operator="Elu"))
    np.testing.assert_allclose(single(crops).numpy(), other(crops).numpy(), atol=1e-5)


def test_insightface_itself_computes_the_same(tmp_path: Path) -> None:
    """The package's own recognition class (alignment by OpenCV, network by onnxruntime) on the landmarks that YuNet finds."""
    pytest.importorskip("insightface")
    pytest.importorskip("onnxruntime")
    from insightface.model_zoo.arcface_onnx import ArcFaceONNX
    from insightface.utils.face_align import norm_crop

    path = network(tmp_path / "a.onnx")
    theirs, ours = ArcFaceONNX(str(path)), build_attacker(f"onnx:{path}")
    theirs.prepare(-1)
    found = ours.embed(images()).vectors
    faces = YuNet().detect(images())
    for image, landmarks, vector in zip(images(), faces.landmarks, found, strict=True):
        aligned = norm_crop(np.ascontiguousarray(image[:, :, ::-1]), landmarks)  # it takes B, G, R
        theirs_vector = theirs.get_feat(aligned)[0]
        assert vector @ theirs_vector / np.linalg.norm(theirs_vector) > 0.999


def test_options_of_an_onnx_file(tmp_path: Path) -> None:
    path = network(tmp_path / "a.onnx")
    crops = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    net, swapped, raw = OnnxFace(path), OnnxFace(path, bgr=True), OnnxFace(path, raw=True)
    torch.testing.assert_close(swapped(crops), net(crops.flip(1)))
    assert not torch.allclose(raw(crops), net(crops), atol=1e-3)
    with pytest.raises(UserError, match="has no option 'rgb'"):
        build_attacker(f"onnx:{path},rgb")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            {"shape": ("N", 3, 160, 160)},
            "takes an input of N x 3 x 160 x 160; ArcFace's convention is N x 3 x 112 x 112",
        ),
        ({"shape": ("N", 1, 112, 112)}, "N x 1 x 112 x 112"),
        ({"shape": ("N", 112, 112, 3), "last": True}, "N x 112 x 112 x 3"),
        ({"inputs": 2}, r"has 2 inputs \(data, more1\)"),
        ({"value": np.nan}, "gives NaN or infinite values"),
        ({"dim": 1}, "embeddings must be N x D"),
    ],
)
def test_a_file_that_is_no_such_network(tmp_path: Path, arguments: dict, complaint: str) -> None:
    attacker = build_attacker(f"onnx:{network(tmp_path / 'a.onnx', **arguments)}")
    assert attacker.available() is not None
    with pytest.raises(UserError, match=complaint):
        attacker.embed(images())


def test_a_damaged_or_missing_file(tmp_path: Path) -> None:
    whole = network(tmp_path / "a.onnx").read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 50):
        (tmp_path / "b.onnx").write_bytes(whole[:length])
        problem = build_attacker(f"onnx:{tmp_path / 'b.onnx'}").available()
        assert problem is not None and "b.onnx" in problem and "\n" not in problem.strip(), (length, problem)
    assert "no such file" in str(build_attacker("onnx:none.onnx").available())
    assert "name the file: onnx:PATH" in str(build_attacker("onnx").available())
    with pytest.raises(UserError, match="'sface' takes a detector after the colon, not 'x'"):
        build_attacker("sface:x")


def test_nan_later_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that breaks on real faces only is an error, not a row of NaN."""
    attacker = build_attacker("sface")
    monkeypatch.setattr(attacker._network, "features", lambda crops: torch.full((len(crops), 128), torch.nan))
    with pytest.raises(UserError, match="'sface' gives NaN or infinite vectors"):
        attacker.embed(images())


# ---- classical ---------------------------------------------------------------------------------------------------------


def test_lbp_codes_against_scikit_image() -> None:
    gray = photo(3, 1).image[..., 0].astype(np.float64) / 255
    for radius in (1.0, 2.0):
        ours = patterns(torch.from_numpy(gray)[None], radius)[0].numpy()
        theirs = local_binary_pattern(gray, 8, radius)
        margin = int(radius)
        inner = theirs[margin:-margin, margin:-margin].astype(int)
        assert (ours == inner).mean() > 0.995  # equal but for ties that rounding decides
    uniform = uniform_bins()
    assert len(set(uniform.tolist())) == 59 and (uniform == 58).sum() == 256 - 58


def test_lbph_by_hand() -> None:
    """A cell's share of each pattern; a flat image has one pattern only."""
    net = LBPHNet()
    flat = net(torch.full((1, 3, 112, 112), 0.5))[0].reshape(59, 49)
    assert flat.count_nonzero() == 49 and torch.allclose(flat.sum(0), torch.full((49,), 1 / 7))
    brighter = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(brighter), net(brighter * 0.5 + 0.2), atol=0.02, rtol=0)


def test_lbph_of_the_inner_face() -> None:
    """Cells of the whole crop's vector, and nothing outside them has a say."""
    noise = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    whole, inner = LBPHNet(3.0).features(noise), LBPHNet(3.0, inner=True)
    cells = whole.reshape(59, 7, 7)[:, 2:6, 2:5]
    assert torch.equal(inner.features(noise)[0], cells.flatten())
    elsewhere = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(2))
    # Codes lie in the pixels 3 to 109; a cell of the 106 of them sees 3 pixels beyond its end.
    elsewhere[:, :, 30:98, 30:82] = noise[:, :, 30:98, 30:82]
    assert torch.equal(inner(elsewhere), inner(noise)) and not torch.equal(LBPHNet(3.0)(elsewhere), LBPHNet(3.0)(noise))
    attacker = build_attacker("lbph:part=inner")
    found = attacker.embed([photo(1, 1).image])
    assert found.vectors.shape == (1, 12 * 59) and found.acquired.all()
    assert attacker.fingerprint() != build_attacker("lbph").fingerprint()
    with pytest.raises(UserError, match="part"):
        build_attacker("lbph:part=nose")


def test_gabor_jets_by_the_papers_formula() -> None:
    """The transform's way gives what a sum over pixels does, with wavelets as the papers write them."""
    image = torch.rand(112, 112, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = magnitudes(image, wavelets(112).double())
    assert found.shape == (40, 8, 6)
    y, x = np.mgrid[-112:224, -112:224]  # periodic
    for v, mu, row, column in ((0, 0, 0, 0), (2, 3, 4, 5), (4, 6, 7, 2)):
        dx, dy = x - (36 + 8 * column), y - (36 + 8 * row)
        k = 2 ** (-(v + 2) / 2) * np.pi
        envelope = k**2 / (2 * np.pi) ** 2 * np.exp(-(k**2) * (dx**2 + dy**2) / (2 * (2 * np.pi) ** 2))
        wave = np.exp(1j * k * (dx * np.cos(mu * np.pi / 8) + dy * np.sin(mu * np.pi / 8)))
        wavelet = envelope * (wave - np.exp(-((2 * np.pi) ** 2) / 2))
        expected = abs((np.tile(image.numpy(), (3, 3)) * wavelet).sum()) / (2 * np.pi)
        assert float(found[8 * v + mu, row, column]) == pytest.approx(expected, rel=1e-4)


def test_gabor_jets_see_the_inner_face_alone() -> None:
    """Neither what is around it, nor light and contrast."""
    net = GaborNet()
    noise, elsewhere = torch.rand(2, 1, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    elsewhere[:, :, 32:96, 32:80] = noise[:, :, 32:96, 32:80]
    assert torch.equal(net(elsewhere), net(noise))
    torch.testing.assert_close(net(noise * 0.5 + 0.2), net(noise), atol=1e-5, rtol=0)
    attacker = build_attacker("gabor")
    found = attacker.embed([photo(1, 1).image, photo(1, 2).image, photo(2, 1).image])
    assert found.vectors.shape == (3, 1920) and found.acquired.all()
    assert found.vectors[0] @ found.vectors[1] > found.vectors[0] @ found.vectors[2]


@pytest.mark.parametrize("inner", [False, True])
def test_smooth_lbph_becomes_lbph(inner: bool) -> None:
    """The colder, the closer, but for the floor of each share; and its gradient is that of its values."""
    noise = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hard, soft = LBPHNet(3.0, inner), SoftLBPHNet(3.0, inner)
    shares = hard.features(noise.float()).square()
    errors = []
    for soft.TEMPERATURE in (1e-1, 1e-2, 1e-6):  # type: ignore[misc]
        errors.append((soft.features(noise).square() - soft.FLOOR - shares).abs().mean().item())
    assert errors[0] > 2 * errors[1] > 20 * errors[2] and errors[2] < 1e-4
    assert soft(noise).shape == hard(noise.float()).shape
    soft.TEMPERATURE = 0.05  # type: ignore[misc]
    way = torch.randn(noise.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = torch.randn(soft.dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    seen = noise.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad((soft(seen) @ weights).sum(), seen)
    step = ((soft(noise + 1e-6 * way) - soft(noise - 1e-6 * way)) @ weights).sum() / 2e-6
    assert (gradient * way).sum().item() == pytest.approx(step.item(), rel=1e-5)


def test_lbph_as_a_surrogate_is_smooth() -> None:
    """A defense gets the smooth version, of the same part; the attacker's own vectors stay as they are."""
    attacker = build_attacker("lbph:part=inner")
    network = attacker.network()
    assert isinstance(network, SoftLBPHNet) and (network.inner, network.radius) == (True, 3.0)
    assert attacker.weights_hash() == LBPHNet(3.0, inner=True).weights_sha256


def test_eigenfaces_against_scikit_learn() -> None:
    photos = [photo(person, k).image for person in range(1, 8) for k in range(1, 6)]
    detector = YuNet()
    net = EigenfacesNet(photos, detector, "test", components=10, skip=3)
    faces = detector.detect(photos)
    matrices = torch.from_numpy(similarity(faces.landmarks, net.template))
    pixels = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float() / 255
    crops = crop(pixels, matrices, 112)
    data = net._pixels(crops).numpy().astype(np.float64)
    expected = PCA(13, whiten=True, svd_solver="full").fit_transform(data)[:, 3:]
    ours = net.features(crops).numpy()
    np.testing.assert_allclose(np.abs(ours), np.abs(expected), atol=2e-3)
    with pytest.raises(ValueError, match="can't give"):
        EigenfacesNet(photos[:5], detector, "test")


def test_eigenfaces_know_public_people_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from iddmbench.attackers import eigenfaces

    asked: list[int] = []
    plain = eigenfaces.photo
    monkeypatch.setattr(eigenfaces, "photo", lambda person, index: (asked.append(person), plain(person, index))[1])
    eigenfaces.Eigenfaces().load()
    assert set(asked) == set(range(1, 11)) <= set(PUBLIC)
    assert eigenfaces.Eigenfaces.trained_on == {("orl", f"s{p}/{k}") for p in range(1, 11) for k in range(1, 11)}


# ---- weights that are fetched ------------------------------------------------------------------------------------------


def drop_in(attacker_name: str, monkeypatch: pytest.MonkeyPatch, make) -> object:
    """Put a small file of the right format where the attacker's weights belong; its checksum is not known then."""
    cls = ATTACKERS.get(attacker_name)
    file = cls.file
    assert file is not None
    small = type(file)(file.file, file.url, file.licence, None, file.member)
    monkeypatch.setattr(cls, "file", small)
    make(small.path)
    return cls


@pytest.mark.parametrize("name", ["buffalo_l", "buffalo_s", "antelopev2", "raccoon_l", "raccoon_s", "fr_feature"])
def test_arcface_files(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = str(build_attacker(name).available())
    assert problem.startswith(f"needs weights: iddmbench fetch {name}")
    with pytest.raises(UserError, match="is not in"):
        build_attacker(name).embed(images())
    cls = ATTACKERS.get(name)
    cls.file.path.write_bytes(b"something else")
    if cls.file.sha256:
        assert "damaged or another file" in str(build_attacker(name).available())
    else:  # nobody publishes a checksum: the file is judged when it is read
        with pytest.raises(UserError, match=r"raccoon_..onnx"):
            build_attacker(name).embed(images())
        cls.file.pin.unlink()
    drop_in(name, monkeypatch, lambda path: network(path, dim=512))
    attacker = build_attacker(name)
    assert attacker.available() is None and attacker.differentiable
    assert attacker.embed(images()).vectors.shape == (4, 512) and len(attacker.fingerprint()) == 64


@pytest.mark.parametrize("name", ["facenet-vggface2", "facenet-casia"])
def test_facenet(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("facenet_pytorch")
    from facenet_pytorch.models.inception_resnet_v1 import InceptionResnetV1

    def make(path: Path) -> None:
        torch.manual_seed(0)
        model = InceptionResnetV1(pretrained=None, classify=True, num_classes=7)  # with its classifier, as published
        torch.save(model.state_dict(), path)

    assert str(build_attacker(name).available()).startswith("needs weights:")
    drop_in(name, monkeypatch, make)
    attacker = build_attacker(name)
    assert attacker.available() is None
    found = attacker.embed(images())
    assert found.vectors.shape == (4, 512) and np.allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)
    crops = torch.rand(1, 3, 160, 160, requires_grad=True)
    attacker.network()(crops)[0, 0].backward()
    assert crops.grad is not None and crops.grad.abs().max() > 0
    attacker.file.pin.unlink()
    for bad in (b"", b"PK no zip", torch.save):
        path = attacker.file.path
        if callable(bad):
            bad({"conv2d_1a.conv.weight": torch.zeros(2)}, path)
        else:
            path.write_bytes(bad)
        attacker.file.pin.unlink(missing_ok=True)
        with pytest.raises(UserError, match="is not a state dict of FaceNet's Inception-ResNet-v1"):
            build_attacker(name).embed(images())


def test_facenet_runs_no_pickle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("facenet_pytorch")

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    drop_in("facenet-casia", monkeypatch, lambda path: torch.save({"x": Evil()}, path))
    with pytest.raises(UserError, match="is not a state dict"):
        build_attacker("facenet-casia").embed(images())
    assert not (tmp_path / "ran").exists()


def test_facenet_s_crop_is_where_mtcnn_looks() -> None:
    """The template is the mean of what facenet-pytorch's own detector frames, on people that did not set it."""
    facenet_pytorch = pytest.importorskip("facenet_pytorch")
    from iddmbench.attackers.facenet import MTCNN_160

    mtcnn = facenet_pytorch.MTCNN(image_size=160, margin=0, device="cpu")
    photos = [photo(person, 1).image for person in (29, 31, 33, 35, 37, 39)]
    landmarks = YuNet().detect(photos).landmarks
    places = []
    for image, points in zip(photos, landmarks, strict=True):
        x0, y0, x1, y1 = mtcnn.detect(image)[0][0]
        places.append((points - [x0, y0]) * [160 / (x1 - x0), 160 / (y1 - y0)])
    assert np.abs(np.mean(places, 0) - MTCNN_160).max() < 8


DEEPFACE = [name for name in ATTACKERS.names() if name.startswith("deepface-") and name != "deepface-sface"]


@pytest.mark.parametrize("name", DEEPFACE)
def test_deepface_s_networks_have_the_stated_sizes(name: str) -> None:
    """Without memory for their weights (VGG-Face has 580 MB of them)."""
    pytest.importorskip("deepface")
    cls = ATTACKERS.get(name)
    with torch.device("meta"):
        body = cls.build().eval()
        crops = torch.empty(2, 3, cls.side, cls.side)
    assert getattr(body, "embed", body)(crops).shape == (2, cls.dim)
    assert str(build_attacker(name).available()).startswith("needs weights:")


@pytest.mark.parametrize("name", ["deepface-openface", "deepface-ghostfacenet"])
def test_deepface(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A small network of it gives what deepface's own API gives, and gradients; nothing is downloaded."""
    pytest.importorskip("deepface")
    import deepface.commons.weight_utils as weight_utils

    monkeypatch.setattr(weight_utils.gdown, "download", lambda *a, **k: pytest.fail("deepface downloads"))
    cls = ATTACKERS.get(name)

    def make(path: Path) -> None:
        torch.manual_seed(0)
        torch.save(cls.build().state_dict(), path)

    drop_in(name, monkeypatch, make)
    attacker = build_attacker(name)
    assert attacker.available() is None
    found = attacker.embed(images())
    assert found.vectors.shape == (4, cls.dim) and np.allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-4)
    crops = torch.rand(1, 3, cls.side, cls.side, generator=torch.Generator().manual_seed(0)).requires_grad_()
    vector = attacker.network()(crops)
    vector[0, :3].sum().backward()
    assert crops.grad is not None and crops.grad.abs().max() > 0
    pixels = (crops.detach() * 255).round()
    theirs = torch.tensor(represented(cls, pixels, monkeypatch, tmp_path))
    torch.testing.assert_close(attacker.network()(pixels / 255)[0], theirs / theirs.norm(), atol=1e-4, rtol=1e-3)
    for bad in (b"", b"PK no zip", torch.save):
        attacker.file.pin.unlink(missing_ok=True)
        if callable(bad):
            bad({"conv.weight": torch.zeros(2)}, attacker.file.path)
        else:
            attacker.file.path.write_bytes(bad)
        with pytest.raises(UserError, match=f"is not a state dict of deepface's {cls.model}: ") as error:
            build_attacker(name).embed(images())
        assert "\n" not in str(error.value)


def represented(cls, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch, home: Path) -> list[float]:
    """What deepface itself makes of one crop in 0..255, from the attacker's file."""
    monkeypatch.setenv("DEEPFACE_HOME", str(home))
    monkeypatch.setenv("DEEPFACE_BACKEND_ENGINE", "pytorch")
    deepface = pytest.importorskip("deepface.DeepFace", exc_type=ImportError)
    folder = home / ".deepface" / "weights"
    folder.mkdir(parents=True, exist_ok=True)  # deepface makes it when it is first imported
    (folder / cls.file.file).symlink_to(cls.file.path)
    image = pixels[0].flip(0).permute(1, 2, 0).to(torch.uint8).numpy()
    rows = deepface.represent(
        image, model_name=cls.model, detector_backend="skip", enforce_detection=False, align=False
    )
    return rows[0]["embedding"]


def test_deepface_s_sface_runs_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    drop_in("deepface-sface", monkeypatch, lambda path: network(path, dim=128))
    attacker = build_attacker("deepface-sface")
    assert attacker.available() is None and attacker.differentiable and attacker.network().differentiable
    assert attacker.network().raw and not attacker.network().bgr
    assert attacker.embed(images()).vectors.shape == (4, 128)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iddmbench.attacker.find_spec", lambda name: None)
    assert str(build_attacker("deepface-arcface").available()) == 'needs extra: pip install "iddmbench[deepface]"'
    needs = 'needs extra: pip install "iddmbench[facenet]"'
    assert str(build_attacker("facenet-casia").available()) == needs


def test_without_onnxruntime_an_unknown_operator_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iddmbench.nets.onnx_face.find_spec", lambda name: None)
    problem = build_attacker(f"onnx:{network(tmp_path / 'b.onnx', operator='Elu')}").available()
    assert "operator Elu is not supported" in str(problem) and "pip install onnxruntime" in str(problem)
