"""Attackers of published `.pth` files: files of the same format, made here, read and used for real; and wrong files."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from command_line import refused
from pth_files import FORMATS, write
from typer.testing import CliRunner

from iddmbench.attacker import ATTACKERS, build_attacker
from iddmbench.attackers.qmagface import parts, with_magnitude
from iddmbench.cli import app
from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError
from iddmbench.linking.absent import absent
from iddmbench.linking.enrolment import Enrolment
from iddmbench.linking.linker import Linker
from iddmbench.metrics.identification import own_scores
from iddmbench.nets.inception_resnet import InceptionResNetV1
from iddmbench.types import Embeddings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IDDMBENCH_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_the_published_format(name: str, folder: Path) -> None:
    """Every tensor of the file is used, and the vectors are those of the network as its project defines it."""
    side = FORMATS[name][1]
    crops = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    expected = write(name, folder, (crops.flip(1) if name in ("adaface", "qmagface") else crops) * 2 - 1)
    attacker = build_attacker(name)
    assert attacker.available() is None
    with torch.inference_mode():
        found = attacker.network()(crops)
    if name == "qmagface":
        directions, magnitudes = parts(found.numpy())
        np.testing.assert_allclose(magnitudes, expected.norm(dim=1), rtol=1e-3)
        found = torch.from_numpy(directions).float()
    torch.testing.assert_close(found, F.normalize(expected), atol=2e-4, rtol=0)
    assert abs(float(found[0] @ found[1])) < 0.9999, "the pictures make no difference"
    pin = folder / f"{FORMATS[name][0]}.sha256"
    assert pin.read_text().startswith(attacker.weights_hash()), "pinned when first used"


@pytest.mark.parametrize("name", ["mobileface", "facenet"])
def test_embedding_faces(name: str, folder: Path) -> None:
    """By aligned crops, and by whole pictures resized as AMT-GAN's scripts do: bilinear, no detector, no alignment."""
    write(name, folder)
    images = [photo(3, 1).image, photo(30, 1).image[10:90, 5:80], np.full((40, 50, 3), 90, np.uint8)]
    aligned, whole = build_attacker(name), build_attacker(f"{name}:crop=whole")
    assert aligned.embed(images).acquired.tolist() == [True, True, False]
    found = whole.embed(images)
    assert found.acquired.all() and whole.fingerprint() != aligned.fingerprint()
    side = FORMATS[name][1]
    for image, vector in zip(images, found.vectors, strict=True):
        pixels = torch.from_numpy(image.copy()).float().permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            published = aligned.network().body(F.interpolate((pixels - 0.5) / 0.5, size=(side, side), mode="bilinear"))
        np.testing.assert_allclose(vector, F.normalize(published)[0].numpy(), atol=1e-5)


def test_qmagfaces_score() -> None:
    """As its similarity/qmagface.py computes it of raw features; people as its IJB script combines photos."""
    features = torch.randn(6, 32, generator=torch.Generator().manual_seed(3)) + 0.6
    features *= torch.tensor([4.0, 9, 2, 5, 7, 3])[:, None]
    vectors = with_magnitude(features).numpy()
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
    probes, photos = features[:3].double().numpy(), features[3:].double().numpy()
    norms = np.linalg.norm(photos, axis=1)
    person = (photos * norms[:, None]).sum(0)
    person = person / np.linalg.norm(person) * (norms**2).sum() / norms.sum()

    def score(f: np.ndarray, g: np.ndarray, alpha: float, beta: float) -> float:
        s = f @ g / np.linalg.norm(f) / np.linalg.norm(g)
        omega = min(beta * s - alpha, 0)
        return omega * min(np.linalg.norm(f), np.linalg.norm(g)) + s

    system = build_attacker("qmagface")
    wanted = [score(f, person, 0.077428, 0.125926) for f in probes]
    np.testing.assert_allclose(system.compare(vectors[:3], vectors[3:]), wanted, rtol=1e-4)
    plain = build_attacker("qmagface:alpha=0,beta=0")
    np.testing.assert_allclose(
        plain.compare(vectors[:3], vectors[3:]), [score(f, person, 0, 0) for f in probes], rtol=1e-5
    )


def test_a_linker_with_a_score_of_its_own(folder: Path) -> None:
    """Everything but where vectors come from is as for cosines: ranks, thresholds, the decoy and feeds follow the score."""
    make = torch.Generator().manual_seed(5)
    centers = torch.randn(8, 16, generator=make)

    def photos(person: int, count: int, size: float = 20.0) -> np.ndarray:
        x = F.normalize(centers[person] + 0.2 * torch.randn(count, 16, generator=make), dim=1)
        return with_magnitude(x * size).numpy()

    public = {f"p{i}": photos(i, 12) for i in range(2, 8)}
    linker = Linker(
        build_attacker("qmagface"), Enrolment({"s0": photos(0, 3), "s1": photos(1, 3)}, public, frozenset(public))
    )
    probes = Embeddings(
        np.concatenate((photos(0, 4), photos(0, 4, 60.0), np.zeros((1, 17), np.float32))), np.arange(9) < 8
    )
    found = linker.link("s0", probes, decoy=["p2", "p3"])
    assert (found.rank[:8] == 1).all() and found.rank[8] == 0 and found.decoy_rank is not None
    assert np.isnan(found.mated[8]) and (found.decoy_rank[:8] > 1).all() and found.feeds[4].rank.tolist() == [1, 1]
    own = linker.attacker.compare(probes.vectors[:8], linker.gallery[linker.labels == "s0"])
    np.testing.assert_allclose(found.mated[:8], own)
    table = own_scores(probes.vectors[:8], linker.gallery, linker.labels, linker.attacker.compare)
    assert table.identities.tolist() == sorted({"s0", "s1", *public}) and (table.scores[:, -2] == own).all()
    assert linker.thresholds["1e-2"].value > found.nonmated[:8].mean()


def test_facenet_is_facenet_pytorch_s() -> None:
    theirs = pytest.importorskip("facenet_pytorch").InceptionResnetV1(pretrained=None).eval()
    generator = torch.Generator().manual_seed(0)
    for value in theirs.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) * 0.05 + (0.5 if value.ndim == 1 else -0.025))
    ours = InceptionResNetV1().eval()
    ours.load_state_dict(theirs.state_dict())
    crops = torch.rand(1, 3, 160, 160, generator=generator) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(F.normalize(ours(crops)), theirs(crops), atol=1e-5, rtol=0)


def test_a_missing_file_names_where_it_comes_from_and_goes(folder: Path) -> None:
    expected = (
        f"needs weights: get ir152.pth from https://github.com/CGCL-codes/AMT-GAN (put it at {folder / 'ir152.pth'})"
    )
    assert build_attacker("ir152").available() == expected
    refused(CliRunner().invoke(app, ["fetch", "ir152"]), f"error: {expected.removeprefix('needs weights: ')}")
    refused(CliRunner().invoke(app, ["run", "--attacker", "ir152"]), f"error: attacker 'ir152' can't run: {expected}")
    noted = {"ir152": "needs weights: get ir152.pth from https://github.com/CGCL-codes/AMT-GAN"}
    assert absent(["ir152", "sface"]) == noted, "no table names a place on this machine"


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("ran",)


def test_a_file_with_code_in_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    torch.save({"input_layer.0.weight": torch.zeros(3), "more": Code()}, folder / "irse50.pth")
    with pytest.raises(
        UserError, match=r"irse50\.pth contains code \(posix.mkdir\), which is never run: save its"
    ) as raised:
        build_attacker("irse50").network()
    assert "\n" not in str(raised.value) and not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is no file of PyTorch weights"),
        (b"PK\x03\x04 cut off", "is no file of PyTorch weights"),
        ([torch.zeros(1)], "contains no state dict, but list"),
        ({"a": "text"}, "contains no state dict"),
        (
            {"bn.weight": torch.ones(512)},
            r"another network, not of MobileFaceNet: it lacks \d+ of its tensors \(first: conv1",
        ),
    ],
)
def test_no_state_dict_at_all(content: object, complaint: str, folder: Path) -> None:
    path = folder / "mobile_face.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=complaint):
        build_attacker("mobileface").network()


def test_check_says_once_what_is_wrong_with_a_file(folder: Path) -> None:
    (folder / "mobile_face.pth").write_bytes(b"PK\x03\x04 cut off")
    done = CliRunner().invoke(app, ["check", "attacker", "mobileface"])
    refused(done, "error: attacker 'mobileface' can't run here: ", "mobile_face.pth is no file of PyTorch weights")
    assert done.stdout == ""


def test_weights_of_another_network(folder: Path) -> None:
    write("mobileface", folder)
    (folder / "mobile_face.pth").rename(folder / "irse50.pth")
    with pytest.raises(UserError, match="the weights of another network, not of IR-SE-50: it lacks"):
        build_attacker("irse50").network()
    write("mobileface", folder)
    state = torch.load(folder / "mobile_face.pth", weights_only=True)
    for change, complaint in (
        ({"linear.weight": torch.zeros(128, 512)}, r"linear.weight, \(128, 512\) instead of \(512, 512\)"),
        ({"head.weight": torch.zeros(2)}, r"it has 1 others \(first: head.weight\)"),
        ({"bn.bias": torch.full((512,), torch.nan)}, r"not finite \(first: bn.bias\)"),
    ):
        torch.save({**state, **change}, folder / "mobile_face.pth")
        (folder / "mobile_face.pth.sha256").unlink(missing_ok=True)
        with pytest.raises(UserError, match=complaint):
            build_attacker("mobileface").network()


def test_another_file_than_the_pinned_one(folder: Path) -> None:
    write("mobileface", folder)
    build_attacker("mobileface").network()
    torch.save({}, folder / "mobile_face.pth")
    problem = build_attacker("mobileface").available()
    assert problem is not None and "the pinned checksum" in problem and "get it again from https://" in problem


def test_one_network_under_two_names() -> None:
    """A defense that optimized facenet-vggface2 knows AMT-GAN's FaceNet."""
    assert ATTACKERS.get("facenet").same_as == "facenet-vggface2"
