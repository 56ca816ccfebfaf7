"""FaceRes against an interpreter of its graph, its files good and bad, and fr_feature and the referee rule.

Tests that need the published files look for them where IDDMBENCH_WEIGHTS points (`iddmbench fetch faceres fr_feature`).
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tfjs_files import faceres_file, run_graph

from iddmbench.attacker import ATTACKERS, build_attacker, same_network
from iddmbench.conformance import Skip, title
from iddmbench.conformance.attacker import (
    CHECKS,
    AttackerSubject,
    own_photos_match_above_impostors,
    the_largest_face_wins,
)
from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError
from iddmbench.linking.aggregate import threat_of
from iddmbench.metrics.verification import eer
from iddmbench.nets.age_sex import age_and_sex
from iddmbench.nets.faceres import MEAN_BGR, FaceRes
from iddmbench.nets.tfjs import read_tfjs
from iddmbench.weights import WeightFile

REAL = ATTACKERS.get("faceres").file.problem() or ""
"""Why the published file can't be used; looked up before the tests point the weights folder elsewhere."""
needs_file = pytest.mark.skipif(bool(REAL), reason=REAL)
FOLDER = os.environ.get("IDDMBENCH_WEIGHTS")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faceres_file(tmp_path_factory.mktemp("faceres"))


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IDDMBENCH_WEIGHTS", str(tmp_path))
    return tmp_path


def crops(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 224, 224, generator=torch.Generator().manual_seed(seed))


def as_graph_takes(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).flip(-1).double().numpy() * 255 - np.array(MEAN_BGR)


def agrees(path: Path, images: torch.Tensor) -> None:
    network, values = FaceRes(path), run_graph(path, as_graph_takes(images))
    outputs = {name.split("/")[0]: array for name, array in values.items() if "/" in name}  # the last node of each name
    embedding, ages, male = (outputs[name] for name in ("global_pooling", "age_pred", "gender_pred"))
    assert np.abs(embedding).max() > 0.1 and embedding.std(0).max() > 1e-3, "the small network must tell images apart"
    np.testing.assert_allclose(network.features(images).numpy(), embedding, atol=1e-4, rtol=1e-4)
    found = network.attributes(images)
    top = np.argsort(ages, 1)[:, -2:]
    chance = np.take_along_axis(ages, top, 1)
    np.testing.assert_allclose(found.age.numpy(), (chance * (top + 1)).sum(1) / chance.sum(1), rtol=1e-4)
    np.testing.assert_allclose(found.female.numpy(), 1 - male[:, 0], atol=1e-5)


def test_a_small_file_against_the_interpreter(small: Path) -> None:
    agrees(small, crops(3))


@needs_file
def test_the_published_file_against_the_interpreter() -> None:
    agrees(ATTACKERS.get("faceres").file.require(), crops(2))


def test_gradients_reach_the_crop(small: Path) -> None:
    x = crops(2).requires_grad_()
    network = FaceRes(small)
    found = network.attributes(x)
    (network(x)[:, 0].sum() + found.age.sum() + found.female.sum()).backward()
    assert x.grad is not None and x.grad.abs().max() > 0 and not any(p.requires_grad for p in network.parameters())
    with pytest.raises(ValueError, match=r"faceres takes float crops \[N, 3, 224, 224\]"):
        network.attributes(torch.rand(1, 3, 112, 112))


WITHOUT_FACES = [c for c in CHECKS if c not in (own_photos_match_above_impostors, the_largest_face_wins)]


@pytest.mark.parametrize("check", WITHOUT_FACES, ids=title)
def test_conformance(check, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but what random weights can't do; tests/test_attackers.py checks the published file, where it is."""
    monkeypatch.setenv("IDDMBENCH_WEIGHTS", str(small.parent))
    use_small(monkeypatch)
    try:
        check(AttackerSubject(lambda: build_attacker("faceres"), "faceres"))
    except Skip as reason:
        pytest.skip(str(reason))


def use_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attacker takes files of any checksum, as the small ones' is not the published one."""
    cls = ATTACKERS.get("faceres")
    (part,) = cls.file.parts
    loose = WeightFile(part.file, part.url, part.licence, None, part.member)
    monkeypatch.setattr(cls, "file", WeightFile(cls.file.file, part.url, part.licence, None, "x", 0, (loose,)))


@needs_file
def test_it_knows_people_who_did_not_choose_its_crop() -> None:
    """ORL 29-40; crop and scaling were chosen on 1-28."""
    found = build_attacker("faceres").embed([photo(p, k).image for p in range(29, 41) for k in range(1, 11)])
    people = np.repeat(np.arange(29, 41), 10)
    scores = found.vectors @ found.vectors.T
    first, second = np.triu_indices(len(people), 1)
    same = people[first] == people[second]
    assert found.acquired.all() and eer(scores[first, second][same], scores[first, second][~same]) < 0.01
    np.fill_diagonal(scores, -2)
    assert (people[scores.argmax(1)] == people).all()


@needs_file
def test_age_and_sex_of_known_people() -> None:
    """ORL's four women and six of its bearded men; adults all."""
    network = build_attacker("faceres").network()
    women, men = (8, 10, 32, 35), (11, 14, 25, 26, 28, 37)
    images = [photo(person, 1).image for person in (*women, *men)]
    found = age_and_sex(network, [*images, np.full((80, 80, 3), 127, np.uint8)])
    assert (found.female[:4] > 0.5).all() and (found.female[4:10] < 0.1).all()
    assert (found.age[:10] > 18).all() and (found.age[:10] < 70).all()
    assert np.isnan(found.age[10]) and np.isnan(found.female[10])
    alone = age_and_sex(network, images[3:4])
    np.testing.assert_allclose([alone.age[0], alone.female[0]], [found.age[3], found.female[3]], rtol=1e-3, atol=1e-4)


def test_absent_or_wrong_files_are_one_line(empty: Path) -> None:
    attacker = build_attacker("faceres")
    assert str(attacker.available()) == f"needs weights: iddmbench fetch faceres (faceres.json is not in {empty})"
    faceres_file(empty)
    problem = str(build_attacker("faceres").available())
    assert "faceres.json is damaged or another file" in problem and "\n" not in problem
    with pytest.raises(UserError, match="its checksum is 5b83d49c0385"):
        attacker.embed([photo(1, 1).image])


@needs_file
def test_the_numbers_file_is_checked_too(empty: Path) -> None:
    (empty / "faceres.json").write_bytes((Path(FOLDER) / "faceres.json").read_bytes() if FOLDER else b"")
    if not FOLDER:
        pytest.skip("the published file is not in IDDMBENCH_WEIGHTS")
    assert f"faceres.bin is not in {empty}" in str(build_attacker("faceres").available())
    whole = (Path(FOLDER) / "faceres.bin").read_bytes()
    (empty / "faceres.bin").write_bytes(whole[:-2])
    assert "faceres.bin is damaged or another file" in str(build_attacker("faceres").available())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"dim": 512}, "another version of FaceRes: 512 features, 100 ages instead of 1024 and 100"),
        ({"ages": 90}, "another version of FaceRes: 1024 features, 90 ages"),
        ({"stride": 3}, r"another version of it: conv1_bn/.* strides \[1, 3, 3, 1\]"),
    ],
)
def test_another_version_is_named(tmp_path: Path, arguments: dict, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as error:
        FaceRes(faceres_file(tmp_path, **arguments))
    assert "\n" not in str(error.value)


def test_damaged_files_are_named(small: Path, tmp_path: Path) -> None:
    text, numbers = small.read_text(), (small.parent / "faceres.bin").read_bytes()

    def complaint(changed: str, binary: bytes | None = numbers) -> str:
        path = tmp_path / "faceres.json"
        path.write_text(changed)
        if binary is not None:
            (tmp_path / "faceres.bin").write_bytes(binary)
        with pytest.raises(UserError) as error:
            FaceRes(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "can't be read: No such file" in complaint(text, None)
    assert "is not a JSON file" in complaint(text[:5000])
    assert "is not a TensorFlow.js graph model" in complaint("[1, 2]")
    assert "are cut off" in complaint(text, numbers[:-10])
    assert "but it describes" in complaint(text, numbers + b"more")
    assert "outside its folder: '../faceres.bin'" in complaint(text.replace('"faceres.bin"', '"../faceres.bin"'))
    assert "weights of type 'complex64'" in complaint(text.replace('"float16"', '"complex64"'))
    assert "lists no weight files" in complaint(json.dumps({"format": "graph-model", "modelTopology": {"node": []}}))
    fewer = text.replace("DepthwiseConv2dNative", "Other", 1)
    assert "another version of it: 26 convolutions instead of 27" in complaint(fewer)
    renamed = text.replace('{"name": "feats/kernel", "shape"', '{"name": "f", "shape"')
    assert "another version of it: 'feats/kernel'" in complaint(renamed)


def test_numbers_of_all_kinds(tmp_path: Path) -> None:
    """Plain floats and integers, 16-bit floats, and integers with a scale."""
    kinds = [
        ({"dtype": "float32"}, np.array([1.5, -2], "<f4"), [1.5, -2]),
        ({"dtype": "float32", "quantization": {"dtype": "float16"}}, np.array([0.5, 3], "<f2"), [0.5, 3]),
        (
            {"dtype": "float32", "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1}},
            np.array([0, 4], "u1"),
            [-1, 1],
        ),
        ({"dtype": "int32"}, np.array([7, -7], "<i4"), [7, -7]),
        ({"dtype": "bool"}, np.array([True, False]), [1, 0]),
    ]
    entries = [{"name": f"w{i}", "shape": [2], **kind} for i, (kind, _, _) in enumerate(kinds)]
    data = b"".join(array.tobytes() for _, array, _ in kinds)
    (tmp_path / "a.bin").write_bytes(data[:9])  # a file may end in the middle of an array
    (tmp_path / "b.bin").write_bytes(data[9:])
    document = {
        "format": "graph-model",
        "modelTopology": {"node": []},
        "weightsManifest": [{"paths": ["a.bin", "b.bin"], "weights": entries}],
    }
    (tmp_path / "m.json").write_text(json.dumps(document))
    found = read_tfjs(tmp_path / "m.json").weights
    for i, (_, _, expected) in enumerate(kinds):
        np.testing.assert_array_equal(found[f"w{i}"], expected)


# ---- fr_feature and the referee ----------------------------------------------------------------------------------------


def test_the_referee_is_no_attacker_on_its_dataset() -> None:
    referee = build_attacker("fr_feature")
    refusal = str(referee.refusal("synthetic"))
    assert "'fr_feature' was the referee of dataset 'synthetic'" in refusal and "\n" not in refusal
    assert referee.refusal("orl") is None and build_attacker("dlib").refusal("synthetic") is None
    assert build_attacker("fr_feature:mtcnn").refusal("synthetic") == refusal


def test_the_referee_named_by_its_path(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_attacker_files import network

    from iddmbench.wheel_files import sha256

    path, other = network(empty / "a.onnx", dim=512), network(empty / "b.onnx", dim=64)
    cls = ATTACKERS.get("fr_feature")
    monkeypatch.setattr(
        cls, "file", WeightFile("fr_feature.onnx", cls.file.url, "MIT", sha256(path), "fr_feature.onnx")
    )
    assert "was the referee" in str(build_attacker(f"onnx:{path}").refusal("synthetic"))
    assert build_attacker(f"onnx:{path}").refusal("orl") is None
    assert build_attacker(f"onnx:{other}").refusal("synthetic") is None


@pytest.mark.parametrize("name", ["fr_feature", "cross-post:fr_feature"])
def test_a_run_with_the_referee_stops_before_it_trains(
    name: str, empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_attacker_files import network

    from iddmbench.run.config import RunConfig
    from iddmbench.run.pipeline import run

    cls = ATTACKERS.get("fr_feature")
    network(empty / "fr_feature.onnx", dim=512)
    monkeypatch.setattr(cls, "file", WeightFile("fr_feature.onnx", cls.file.url, "MIT", None, "fr_feature.onnx"))
    monkeypatch.setattr(cls, "referee_of", ("orl",))
    config = RunConfig(dataset="orl", attackers=(name, "dlib"), subjects=3)
    with pytest.raises(UserError, match=r"'fr_feature' was the referee of dataset 'orl'.*take another attacker"):
        run(config, tmp_path / "out", tmp_path / "cache")
    assert not list(tmp_path.rglob("*.png")) and not list(tmp_path.rglob("*.safetensors"))


# ---- one network under two names ---------------------------------------------------------------------------------------


def test_a_network_under_another_name_is_white_box_too() -> None:
    assert [same_network(n) for n in ("raccoon_s", "raccoon_l", "deepface-sface")] == [
        "buffalo_s",
        "buffalo_l",
        "sface",
    ]
    assert [same_network(n) for n in ("dlib", "no_such", "onnx:a.onnx")] == ["dlib", "no_such", "onnx:a.onnx"]
    for known, twin in (("buffalo_s", "raccoon_s"), ("raccoon_s", "buffalo_s"), ("sface", "deepface-sface")):
        assert (
            threat_of(twin, (known,)) == "white-box" and threat_of(f"finetune:{twin}", (known,)) == "adaptive white-box"
        )
    assert threat_of("raccoon_l", ("buffalo_s",)) == "transfer"
