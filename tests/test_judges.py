"""Optional judges: each equals its own library on the same weights, which are random and of the real classes."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

import iddmbench as ib
from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError
from iddmbench.judges import JUDGES, available, judge_of, unmeasured
from iddmbench.judges.base import Judge, Scene
from iddmbench.judges.clip import Clip
from iddmbench.judges.deepface import FdfrAndIsm, largest
from iddmbench.judges.dino import Dino
from iddmbench.judges.inception import Inception
from iddmbench.judges.perceptual import Lpips
from iddmbench.linking.judged import figures_by_prompt, judged_figures
from iddmbench.metrics.anti_dreambooth import by_prompt, clean_embedding, match_scores
from iddmbench.metrics.distribution import frechet_distance
from iddmbench.results.metric_info import BY_NAME, UNMEASURED
from iddmbench.weights import WeightFile

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 64, 64, 3), np.uint8)
REFERENCES = RNG.integers(0, 256, (4, 64, 64, 3), np.uint8)
PROMPTS = ["a photo of sks person", "a photo of sks person", "a dslr portrait of sks person"] + ["a smile"] * 2
SCENE = Scene(list(IMAGES), PROMPTS, REFERENCES, None, REFERENCES[:0])


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IDDMBENCH_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def files(*names: str) -> tuple[WeightFile, ...]:
    """Weights that nobody publishes: the first seen is pinned."""
    return tuple(WeightFile(name, f"https://example.org/{name}", "random") for name in names)


# ---- absent ---------------------------------------------------------------------------------------------------------------


def test_without_weights_a_line_names_every_command(weights: Path) -> None:
    assert available() == ()
    line = unmeasured(())
    for name, judge in JUDGES.items():
        assert judge.measures in line and f"iddmbench fetch {name}" in line
        assert all(metric in BY_NAME for metric in judge.metrics)
        problem = judge().problem()
        assert problem.startswith((f"needs weights: iddmbench fetch {name}", "needs extra: pip install"))
    assert unmeasured([judge() for judge in JUDGES.values()]) == "" and UNMEASURED == "not measured: "


def test_without_its_package_the_command_installs_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clip, "package", ("no_such_package", "open-clip-torch"))
    assert Clip.command() == 'pip install "iddmbench[clip]" && iddmbench fetch clip'
    assert Clip().problem() == 'needs extra: pip install "iddmbench[clip]"'


def test_a_misspelt_judge() -> None:
    with pytest.raises(UserError, match=r"unknown judge 'clp'.*clip"):
        judge_of("clp")


def test_the_real_inception_has_its_published_checksum(weights: Path) -> None:
    (file,) = Inception.files
    (weights / file.file).write_bytes(b"another file")
    assert "damaged or another file" in Inception().problem()


# ---- FID and KID ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In pytorch-fid's format: torchvision's modules with FID's number of classes."""
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("inception") / Inception.files[0].file
    torch.save(inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False).state_dict(), path)
    return path


@pytest.fixture
def inception(random_inception: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inception:
    """Its file lies in our weights folder, and where pytorch-fid's own loader looks before it downloads."""
    pytest.importorskip("pytorch_fid")
    monkeypatch.setattr(Inception, "files", files(Inception.files[0].file))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    for folder in (weights, tmp_path / "hub" / "checkpoints"):
        (folder / random_inception.name).symlink_to(random_inception)
    return Inception()


def test_fid_is_pytorch_fids(inception: Inception, tmp_path: Path) -> None:
    """Its own functions from folders of pictures to activations and to FID (on some of the features: so few images have a
    singular covariance in 2048, which pytorch-fid regularizes)."""
    from pytorch_fid.fid_score import calculate_frechet_distance, get_activations
    from pytorch_fid.inception import InceptionV3

    assert inception.problem() == ""
    network, theirs = InceptionV3().eval(), []
    for name, images in (("outputs", IMAGES), ("real", REFERENCES)):
        paths = [tmp_path / f"{name}{i}.png" for i in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            Image.fromarray(image).save(path)
        theirs.append(get_activations([str(path) for path in paths], network, 2, 2048, "cpu", 0))
    found = inception.judge(SCENE)
    np.testing.assert_allclose(found["inception"], theirs[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["inception_real"], theirs[1], rtol=1e-4, atol=1e-5)
    a, b = theirs[0][:, :3].astype(float), theirs[1][:, :3].astype(float)
    expected = calculate_frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))
    ours = frechet_distance(found["inception"][:, :3], found["inception_real"][:, :3])
    assert ours == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_other_weights_are_refused(inception: Inception, weights: Path) -> None:
    (weights / Inception.files[0].file).unlink()
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(1)}, weights / Inception.files[0].file)
    with pytest.raises(UserError, match="not a state dict of pytorch-fid's Inception"):
        inception.judge(SCENE)


class Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("harm"),))


def test_a_pickle_with_code_is_refused(
    inception: Inception, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (weights / Inception.files[0].file).unlink()
    torch.save({"x": Harmful()}, weights / Inception.files[0].file)
    with pytest.raises(UserError, match="not a state dict of pytorch-fid's Inception"):
        inception.judge(SCENE)
    assert not Path("harm").exists()


# ---- CLIP, DINO, LPIPS ----------------------------------------------------------------------------------------------------


def test_clip_score_and_clip_i_are_open_clips(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_clip = pytest.importorskip("open_clip")
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    config = tmp_path / "tiny-quickgelu.json"
    config.write_text(json.dumps({"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(config)
    torch.manual_seed(0)
    model, _, prepare = open_clip.create_model_and_transforms("tiny-quickgelu")
    monkeypatch.setattr(Clip, "model", "tiny-quickgelu")
    monkeypatch.setattr(Clip, "files", files("clip.safetensors"))
    save_file(model.state_dict(), weights / "clip.safetensors")
    found = Clip().judge(SCENE)
    model.eval()
    with torch.no_grad():
        images, references = (
            F.normalize(model.encode_image(torch.stack([prepare(Image.fromarray(x)) for x in xs])), dim=-1)
            for xs in (IMAGES, REFERENCES)
        )
        texts = F.normalize(model.encode_text(open_clip.get_tokenizer("tiny-quickgelu")(PROMPTS)), dim=-1)
    np.testing.assert_allclose(found["clip_score"], (images @ texts.T).diagonal(), atol=1e-5)
    np.testing.assert_allclose(found["clip_i"], (images @ references.T).mean(1), atol=1e-5)
    without = Clip().judge(SCENE._replace(prompts=[""] * 5, references=REFERENCES[:0]))
    assert without == {}, "what has no prompt and no reference is not measured, and not 0"
    (weights / "clip.safetensors.sha256").unlink()
    save_file({"x": torch.zeros(2)}, weights / "clip.safetensors")
    with pytest.raises(UserError, match="not a state dict of open_clip's tiny-quickgelu"):
        Clip().judge(SCENE)


def test_dino_is_timms(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    monkeypatch.setattr(Dino, "model", "vit_tiny_patch16_224")
    monkeypatch.setattr(Dino, "files", files("dino.safetensors"))
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    save_file(network.state_dict(), weights / "dino.safetensors")
    found = Dino().judge(SCENE)["dino"]
    prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    with torch.no_grad():
        a, b = (network(torch.stack([prepare(Image.fromarray(x)) for x in xs])) for xs in (IMAGES, REFERENCES))
    np.testing.assert_allclose(found, (F.normalize(a) @ F.normalize(b).T).mean(1), atol=1e-5)
    save_file({"x": torch.zeros(2)}, weights / "dino.safetensors")
    (weights / "dino.safetensors.sha256").unlink()
    with pytest.raises(UserError, match="not a state dict of timm's vit_tiny"):
        Dino().judge(SCENE)


def test_lpips_is_lpips(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lpips = pytest.importorskip("lpips")
    from torchvision.models import alexnet

    monkeypatch.setattr(Lpips, "files", files("alexnet.pth"))
    torch.manual_seed(0)
    trunk = alexnet(weights=None)
    torch.save({f"features.{k}": v for k, v in trunk.features.state_dict().items()}, weights / "alexnet.pth")
    protected = RNG.integers(0, 256, REFERENCES.shape, np.uint8)
    found = Lpips().judge(SCENE._replace(protected=protected))["photo_lpips"]
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    convolutions = [module for module in theirs.net.modules() if isinstance(module, torch.nn.Conv2d)]
    own = [module for module in trunk.features if isinstance(module, torch.nn.Conv2d)]
    for to, of in zip(convolutions, own, strict=True):
        to.load_state_dict(of.state_dict())
    a, b = (torch.stack([lpips.im2tensor(x)[0] for x in xs]) for xs in (protected, REFERENCES))
    with torch.no_grad():
        np.testing.assert_allclose(found, theirs(a, b).flatten(), rtol=1e-4, atol=1e-6)
    assert (Lpips().distances(REFERENCES, REFERENCES) == 0).all() and Lpips().judge(SCENE) == {}


# ---- FDFR and ISM ---------------------------------------------------------------------------------------------------------


def test_fdfr_and_ism_follow_the_released_script() -> None:
    """On the same embeddings, step by step in torch as evaluations/ism_fdfr.py goes: per prompt, the sum of the clean
    embeddings over all photos, float32 cosines over found faces, and the share of images without a face."""
    generator = np.random.default_rng(1)
    clean = [generator.normal(size=512), None, generator.normal(size=512)]
    faces = [generator.normal(size=512), None, generator.normal(size=512), None, None]
    scores = match_scores(faces, clean_embedding(clean))
    lost = np.array([float(face is None) for face in faces])
    ism, fdfr = by_prompt(scores, PROMPTS), by_prompt(lost, PROMPTS)
    mean = torch.Tensor(sum(x for x in clean if x is not None) / 3)
    for prompt in dict.fromkeys(PROMPTS):
        own = [face for face, p in zip(faces, PROMPTS, strict=True) if p == prompt]
        found = [F.cosine_similarity(torch.Tensor(face), mean, dim=0) for face in own if face is not None]
        assert fdfr[prompt] == pytest.approx((len(own) - len(found)) / len(own))
        if found:
            assert ism[prompt] == pytest.approx(float(sum(found) / len(found)), abs=1e-6)
        else:
            assert math.isnan(ism[prompt])
    assert fdfr["a smile"] == 1 and math.isnan(ism["a smile"])
    assert clean_embedding([None, None]) is None and np.isnan(match_scores(faces, None)).all()


def test_the_largest_face_counts() -> None:
    small, large = np.zeros(3), np.ones(3)
    assert largest([(10, small), (20, large), (20, small)]) is large and largest([]) is None


@pytest.mark.slow
def test_deepface_runs_on_checked_files(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random RetinaFace and ArcFace of the real classes, through deepface's own pipeline. The detector's scores are set so that
    everything is background: no face in any image."""
    pytest.importorskip("deepface")
    retina = pytest.importorskip("retinaface.model.retinaface_pth_model")
    from deepface.models.facial_recognition.pytorch import ArcFace

    monkeypatch.setattr(FdfrAndIsm, "files", files("arcface_weights.pth", "retinaface.pth"))
    torch.manual_seed(0)
    torch.save(ArcFace.base_model().state_dict(), weights / "arcface_weights.pth")
    detector = retina.RetinaFace()
    scores = [module for name, module in detector.named_modules() if name.endswith("cls_score")]
    for module in scores:
        module.weight.data.zero_()
        module.bias.data.copy_(torch.tensor([20.0, 20.0, -20.0, -20.0]))  # of two anchors: background, then face
    assert len(scores) == 3
    torch.save(detector.state_dict(), weights / "retinaface.pth")
    found = FdfrAndIsm().judge(SCENE._replace(images=list(IMAGES[:1]), prompts=PROMPTS[:1], references=REFERENCES[:1]))
    assert found["fdfr_anti_dreambooth"].tolist() == [1] and np.isnan(found["ism_anti_dreambooth"]).all()


# ---- figures --------------------------------------------------------------------------------------------------------------


def judged(**values: list[float]) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in values.items()}


def test_figures_are_means_over_prompts_and_people() -> None:
    first = judged(ism_anti_dreambooth=[0.2, 0.4, np.nan], clip_i=[0.1, 0.2, 0.3])
    second = judged(ism_anti_dreambooth=[np.nan, np.nan, 0.9], clip_i=[0.5, 0.5, 0.5])
    found = judged_figures({"a": [(first, ["x", "x", "y"])], "b": [(second, ["x", "x", "y"])]})
    # Person a: prompt x 0.3, prompt y unknown; person b: prompt y 0.9.
    assert found["ism_anti_dreambooth"].value == pytest.approx(0.6)
    assert found["clip_i"].value == pytest.approx(0.35) and found["clip_i"].groups == 2


def test_figures_by_prompt_are_the_released_scripts() -> None:
    """Of each person and prompt what evaluations/ism_fdfr.py prints for that folder, then the mean over people."""
    generator, prompts = np.random.default_rng(2), ["x", "x", "x", "y", "y", "y"]
    clean = {name: [generator.normal(size=8) for _ in range(4)] for name in "abc"}
    lost = {"a": (1, 5), "b": (0, 1, 2), "c": (3,)}  # b has no face under prompt x
    faces = {n: [None if i in lost[n] else generator.normal(size=8) for i in range(6)] for n in "abc"}

    def printed(name: str, prompt: str) -> tuple[float | None, float]:
        """The script's loop over a folder: counts of lost faces, the sum of cosines over the rest."""
        mean, total, fails = torch.Tensor(sum(clean[name]) / 4), 0.0, 0
        folder = [face for face, text in zip(faces[name], prompts, strict=True) if text == prompt]
        for face in folder:
            if face is None:
                fails += 1
            else:
                total += float(F.cosine_similarity(torch.Tensor(face), mean, dim=0))
        return (None, 1) if fails == len(folder) else (total / (len(folder) - fails), fails / len(folder))

    cells = {}
    for name in "abc":
        scores = match_scores(faces[name], clean_embedding(clean[name]))
        none = np.array([float(face is None) for face in faces[name]])
        cells[name] = [({"ism_anti_dreambooth": scores, "fdfr_anti_dreambooth": none}, prompts)]
    found = {(p, m): e for p, m, e in figures_by_prompt(cells, ("fdfr_anti_dreambooth", "ism_anti_dreambooth", "dino"))}
    assert list(found) == [(p, m) for p in "xy" for m in ("fdfr_anti_dreambooth", "ism_anti_dreambooth")]
    for prompt in "xy":
        pairs = [printed(name, prompt) for name in "abc"]
        ism = [value for value, _ in pairs if value is not None]
        one, other = found[prompt, "ism_anti_dreambooth"], found[prompt, "fdfr_anti_dreambooth"]
        assert one.value == pytest.approx(np.mean(ism), abs=1e-6) and one.groups == len(ism)
        assert other.value == pytest.approx(np.mean([share for _, share in pairs])) and other.n == 9
        assert other.low < other.value < other.high
    assert found["x", "ism_anti_dreambooth"].groups == 2 and figures_by_prompt({}, ("dino",)) == []


def test_what_some_cell_lacks_is_no_figure() -> None:
    assert set(judged_figures({"a": [(judged(dino=[1.0]), ["x"])], "b": [({}, ["x"])]})) == set()
    assert judged_figures({}) == {}


def test_a_face_nowhere_is_unknown_and_not_zero() -> None:
    found = judged_figures({"a": [(judged(ism_anti_dreambooth=[np.nan]), ["x"])]})
    assert math.isnan(found["ism_anti_dreambooth"].value)


def test_fid_and_kid_are_over_all_people() -> None:
    features = [RNG.normal(size=(6, 4)) for _ in range(4)]
    cells = {
        name: [({"inception": features[i], "inception_real": features[i + 2]}, ["x"] * 6)]
        for i, name in enumerate("ab")
    }
    found = judged_figures(cells)
    expected = frechet_distance(np.concatenate(features[:2]), np.concatenate(features[2:]))
    assert found["fid_inception"].value == pytest.approx(expected) and found["kid_inception"].n == 12


def test_a_judge_is_part_of_the_keys(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Brightness(Judge):
        name, measures, metrics = "brightness", "brightness", ("brightness",)
        files = files("b.bin")

        def judge(self, scene: Scene) -> dict[str, np.ndarray]:
            return {}

    (weights / "b.bin").write_bytes(b"1")
    first = Brightness().fingerprint()
    (weights / "b.bin").write_bytes(b"22")
    with pytest.raises(UserError, match="pinned"):
        Brightness().fingerprint()
    (weights / "b.bin.sha256").unlink()
    assert Brightness().fingerprint() != first


@pytest.mark.slow
def test_an_evaluation_has_the_figures_of_a_judge_that_is_here(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others have no row, and the note says what gets them."""
    timm = pytest.importorskip("timm")
    monkeypatch.setattr(Dino, "model", "vit_tiny_patch16_224")
    monkeypatch.setattr(Dino, "files", files("dino.safetensors"))
    save_file(timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict(), weights / "dino.safetensors")
    people = {"a": 29, "b": 30}
    own = {k: {name: [photo(p, i).image for i in k] for name, p in people.items()} for k in ((1, 2), (3,), (5,))}
    found = ib.evaluate(own[1, 2], own[5,], references=own[3,], attackers="eigenfaces")
    table = found.summary()
    (value,) = table[table["metric"] == "dino"]["value"]
    assert -1 <= value <= 1 and value != 0
    assert not {"clip_i", "clip_score", "fid_inception", "ism_anti_dreambooth"} & set(table["metric"])
    (note,) = (note for note in found.notes if note.startswith(UNMEASURED))
    assert "iddmbench fetch inception" in note and "fetch dino" not in note
