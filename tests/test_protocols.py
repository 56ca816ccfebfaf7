"""Published protocols: data files, what they fix and know, the target person, and what a run under one of them says."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from command_line import refused
from PIL import Image
from pth_files import Numbers, mobilefacenet, write
from tiny_base import write_base
from typer.testing import CliRunner, Result

from iddmbench.cli import app
from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError
from iddmbench.judges.deepface import FdfrAndIsm
from iddmbench.linking.published import taken_for
from iddmbench.protocols import OURS, load_protocol, protocols
from iddmbench.report.page import Drawings, report
from iddmbench.results.by_prompt import prompt_lines
from iddmbench.results.comparable import check_comparable
from iddmbench.results.reproduce import command
from iddmbench.results.run_folder import RunFolder
from iddmbench.run import pipeline
from iddmbench.run.config import RunConfig, default_folder, identity, make_config
from iddmbench.run.plan import RunPlan
from iddmbench.submission.bundle import About, write_bundle
from iddmbench.sweep.config import load_sweep

runner = CliRunner()
WHOLE = "mobileface:crop=whole"


def run(*arguments: str) -> Result:
    return runner.invoke(app, ["run", *arguments])


@pytest.mark.parametrize("name", protocols())
def test_each_file_is_valid_and_its_settings_are_a_run_s(name: str) -> None:
    one = load_protocol(name)
    assert one.name == name and one.title and (name == OURS or one.paper.startswith("https://arxiv.org/abs/"))
    config = make_config({"protocol": name})
    assert config.departures() == []
    one.check(config.dataset, config.attackers, config.personalizer, "")
    assert one.ranks is (name == OURS)


def test_published_figures() -> None:
    """As Anti-DreamBooth's and AMT-GAN's code have them."""
    published = make_config({"protocol": "anti-dreambooth"})
    assert (len(published.prompts), published.images_per_prompt) == (5, 16)
    assert published.sampling == {"steps": 100, "guidance": 7.5}
    assert published.subjects == "all" and published.dataset_options == {"public": 0}
    assert published.threat == "unauthorized" and published.personalizer == "dreambooth"
    thresholds = load_protocol("amt-gan").thresholds
    assert thresholds is not None and thresholds.far == 0.01
    assert {name.split(":")[0]: value for name, value in thresholds.values.items()} == {
        "ir152": 0.166788,
        "irse50": 0.241045,
        "facenet": 0.409131,
        "mobileface": 0.301611,
    }
    assert all(name.endswith(":crop=whole") for name in thresholds.values)


def test_ours_is_the_default_and_changes_nothing() -> None:
    """Runs of before have the same folder and the same configuration."""
    config = RunConfig()
    assert config.protocol == OURS and not {"protocol", "target"} & identity(config).keys()
    assert default_folder(config) != default_folder(make_config({"protocol": "iddm"}))


def test_what_is_given_goes_before_what_a_protocol_fixes_and_is_told() -> None:
    config = make_config(
        {
            "protocol": "anti-dreambooth",
            "prompts": ["a photo of sks person", "sks"],
            "images_per_prompt": 2,
            "sampling": {"steps": "50"},
            "subject": "n1",
        }
    )
    assert config.sampling == {"steps": "50", "guidance": 7.5} and config.subjects == ("n1",)
    assert config.departures() == [
        "subjects n1 (published: all)",
        "images_per_prompt 2 (published: 16)",
        "prompts 2 (1 of the 5 published)",
        "sampling.steps 50 (published: 100)",
    ]
    # Spelled out, as a worker or a command that makes the run again has it.
    assert make_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--protocol", "amtgan"], "unknown protocol 'amtgan': did you mean 'amt-gan'?"),
        (
            ["--protocol", "anti-dreambooth", "--dataset", "orl"],
            "protocol 'anti-dreambooth' does not know dataset 'orl': it knows vggface2, celebahq",
        ),
        (
            ["--protocol", "amt-gan", "--attacker", "sface"],
            "protocol 'amt-gan' does not know attacker 'sface': it knows ir152:crop=whole, irse50:crop=whole",
        ),
        (
            ["--protocol", "anti-dreambooth", "--personalizer", "lora", "--attacker", "deepface-arcface"],
            "protocol 'anti-dreambooth' does not know personalizer 'lora': it knows dreambooth alone",
        ),
        (["--target", "s3"], "protocol 'iddmbench' has no target person: leave --target out"),
    ],
)
def test_what_a_protocol_does_not_know_is_refused(arguments: list[str], complaint: str) -> None:
    refused(run(*arguments), complaint)


def test_a_sweep_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nprotocol: amt-gan\nattackers: [dlib]\n")
    with pytest.raises(UserError, match=r"mine\.yaml.*protocol 'amt-gan' does not know attacker 'dlib'"):
        load_sweep(str(path))
    path.write_text("protocol: amtgan\n")
    with pytest.raises(UserError, match=r"mine\.yaml.*unknown protocol 'amtgan'"):
        load_sweep(str(path))


def test_the_list_shows_them() -> None:
    shown = runner.invoke(app, ["list", "protocols"]).output
    assert all(name in shown for name in protocols()) and "the only one that ranks" in " ".join(shown.split())
    shown = runner.invoke(app, ["list", "protocol", "amt-gan"]).output
    assert "0.301611" in shown and "mobileface:crop=whole" in shown and "no five-point" in shown


# ---- runs -------------------------------------------------------------------------------------------------------------


def people(root: Path) -> Path:
    """Four people of ORL with two photos in each of the sets A, B and C."""
    for person in (29, 30, 31, 32):
        for i, letter in enumerate("ABC"):
            for k in (1, 2):
                path = root / str(person) / f"set_{letter}" / f"{2 * i + k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(photo(person, 2 * i + k).image).save(path)
    return root


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, base model, and MobileFaceNet with random weights. Read only."""
    folder = tmp_path_factory.mktemp("world")
    people(folder / "photos")
    write_base(folder / "base")
    write("mobileface", folder / "weights")
    return folder


def arguments(world: Path, *more: str) -> list[str]:
    """Of a small run; its cache is shared."""
    usual = ["--root", str(world / "photos"), "--data", "public=0", "--data", "fewest=2", "--defense", "blur"]
    usual += ["--base", str(world / "base"), "--strength", "1", "--images-per-prompt", "1", "--subjects", "2"]
    return [*usual, "--prompt", "a photo of sks person", "--no-anchors", "--cache", str(world / "cache"), *more]


@pytest.mark.slow
def test_impersonation_by_published_thresholds(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of posted images whose cosine to the target's picture is above the threshold, as AMT-GAN's script has it."""
    monkeypatch.setenv("IDDMBENCH_WEIGHTS", str(world / "weights"))
    out = tmp_path / "run"
    amt_gan = ["--protocol", "amt-gan", "--attacker", WHOLE, "--target", "id31", "--out", str(out)]
    result = run(*arguments(world, *amt_gan))
    assert result.exit_code == 0, result.output
    finished = RunFolder.open(out)
    [row] = finished.published.to_dict("records")
    assert (row["attacker"], row["target"], row["threshold"]) == (WHOLE, "id31", 0.301611)

    def embedded(image: np.ndarray) -> torch.Tensor:
        pixels = torch.from_numpy(image.copy()).float().permute(2, 0, 1)[None] / 255
        resized = F.interpolate((pixels - 0.5) / 0.5, size=(112, 112), mode="bilinear")
        return F.normalize(mobilefacenet(Numbers(), resized))[0]

    target = embedded(photo(31, 5).image)  # the first photo of set C
    posted = [np.array(Image.open(out / image).convert("RGB")) for image in finished.images["image"]]
    scores = [float(embedded(image) @ target) for image in posted]
    assert len(scores) == row["images"] == 2
    assert row["value"] == np.mean([score > 0.301611 for score in scores])
    assert row["low"] <= row["value"] <= row["high"]

    told = " ".join(result.output.split())
    assert "Under the published protocol amt-gan, with other settings: attackers mobileface:crop=whole" in told
    assert "(as published, not calibrated): taken for id31 at FAR 0.01 by mobileface:crop=whole" in told
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Impersonation by published thresholds" in page and "0.301611" in page
    config = json.loads((out / "config.json").read_text())
    assert config["protocol"]["name"] == "amt-gan" and config["target"] == "id31"
    assert "--protocol amt-gan" in " ".join(command(config)) and "--target id31" in " ".join(command(config))
    with pytest.raises(UserError, match="under the published protocol 'amt-gan' can't be submitted: only those"):
        write_bundle(finished, None, About("Mine"), tmp_path / "mine.zip")
    assert "published" not in finished.summary["metric"].str.cat(), "a side column: in no worst case and no rank"

    same = arguments(world, "--dataset", "celebahq", "--attacker", WHOLE, "--out", str(tmp_path / "ours"))
    assert (ours := run(*same)).exit_code == 0, ours.output
    ours_run = RunFolder.open(tmp_path / "ours")
    assert ours_run.published.empty and "name" not in ours_run.config["protocol"]
    with pytest.raises(UserError, match="follow different protocols"):
        check_comparable([finished, ours_run])
    assert (finished.cells["cell"] == ours_run.cells["cell"]).all(), "the images are the same; they are not made again"


PROMPTS = ("a photo of sks person", "a dslr portrait of sks person")


def table(world: Path) -> dict[str, Any]:
    """Settings of a small table of Anti-DreamBooth's: two people, two prompts, a base of random weights."""
    return {
        "protocol": "anti-dreambooth",
        "base": str(world / "base"),
        "dataset_options": {"root": str(world / "photos"), "public": 0, "fewest": 2},
        "subjects": 2,
        "prompts": [*PROMPTS],
        "images_per_prompt": 2,
        "sampling": {"steps": 2},
        "personalizer_options": {"steps": 2, "class_images": 2},
        "defenses": ["aspl"],
        "defense_options": {"rounds": 1, "steps": 1, "train_steps": 1},
        "anchors": False,
    }


@pytest.fixture
def arcface(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """deepface's ArcFace with random weights, which is the protocol's attacker."""
    module = pytest.importorskip("deepface.models.facial_recognition.pytorch.ArcFace")
    monkeypatch.setenv("IDDMBENCH_WEIGHTS", str(world / "weights"))
    if not (path := world / "weights" / "arcface_weights.pth").exists():
        torch.manual_seed(0)
        torch.save(module.base_model().state_dict(), path)


@pytest.mark.slow
@pytest.mark.usefixtures("arcface")
def test_a_table_of_anti_dreambooth_is_killed_and_ends(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`iddmbench run` under it, killed once the first model is there; a sweep of the same then makes the other model alone, and
    with a judge that came later FDFR and ISM are measured of the images that are there."""
    cache, file = tmp_path / "cache", tmp_path / "table.yaml"
    file.write_text(yaml.safe_dump(table(world)))
    small = ["--set", "rounds=1", "--set", "steps=1", "--set", "train_steps=1", "--sampling", "steps=2"]
    small += ["--personalizer-set", "steps=2", "--personalizer-set", "class_images=2", "--images-per-prompt", "2"]
    small += ["--root", str(world / "photos"), "--data", "public=0", "--data", "fewest=2", "--subjects", "2"]
    small += ["--base", str(world / "base"), "--no-anchors", *(f"--prompt={prompt}" for prompt in PROMPTS)]
    command = [sys.executable, "-c", "from iddmbench.cli import main; main()", "run", "--protocol", "anti-dreambooth"]
    command += [*small, "--out", str(tmp_path / "killed"), "--cache", str(cache), "--threads", "1"]

    def models() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in cache.glob("personalize/**/key.json")}

    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    while killed.poll() is None and not models():
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    told = killed.communicate()[0].decode()
    before = models()
    assert len(before) == 1 and not (tmp_path / "killed" / "summary.parquet").exists(), told
    where = ["--out", str(tmp_path / "out"), "--cache", str(cache), "--workers", "1", "--threads", "1", "--no-report"]
    done = runner.invoke(app, ["sweep", str(file), *where])
    assert done.exit_code == 0, done.output
    assert len(models()) == 2 and before.items() < models().items()
    finished = RunFolder.open(tmp_path / "out" / "runs" / "table")
    assert len(finished.cells) == 2 and finished.failed.empty and finished.config["threat"] == "unauthorized"
    rows = finished.prompts.set_index(["prompt", "metric"])["value"]
    assert set(rows.index) == {(prompt, metric) for prompt in PROMPTS for metric in ("ser_fiq", "brisque")}
    for prompt in PROMPTS:
        own = finished.images[finished.images["prompt"] == prompt]
        assert rows[prompt, "brisque"] == pytest.approx(own.groupby("subject")["brisque"].mean().mean())
    judged_by_prompt(table(world), tmp_path / "judged", cache, monkeypatch)
    assert len(models()) == 2


def judged_by_prompt(settings: dict[str, Any], out: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the table, the report and on the terminal: as the released script computes them of what deepface sees, here stood in
    for by a function of the pixels, as its weights can't be had."""

    def faces(judge: FdfrAndIsm, image: np.ndarray) -> list[tuple[int, np.ndarray]]:
        vector = np.asarray(image, float)[::16, ::16].mean(2).ravel() - 90
        return [(1, vector)] if vector.sum() % 3 > 1 else []

    monkeypatch.setattr(FdfrAndIsm, "files", ())
    monkeypatch.setattr(FdfrAndIsm, "faces", faces)
    config = make_config(settings)
    pipeline.run(config, out, cache)
    finished = RunFolder.open(out)

    def seen(path: Path) -> torch.Tensor | None:
        found = faces(FdfrAndIsm(), np.array(Image.open(path).convert("RGB")))
        return torch.Tensor(found[0][1]) if found else None

    rows = finished.prompts.set_index(["prompt", "metric"])["value"]
    plan = RunPlan.of(config, cache)
    clean = {}
    for subject in plan.subjects:
        photos = [*plan.stages.crops.references(subject), *plan.stages.crops.surrogate_photos(subject)]
        vectors = [found[0][1] for photo in photos if (found := faces(FdfrAndIsm(), photo))]
        clean[subject.name] = torch.Tensor(np.sum(vectors, 0) / len(photos))
    for prompt in PROMPTS:
        ism, fdfr = [], []
        own = finished.images[finished.images["prompt"] == prompt]
        for name, images in own.groupby("subject"):
            vectors = [seen(out / image) for image in images["image"]]
            scores = [F.cosine_similarity(v, clean[name], dim=0).item() for v in vectors if v is not None]
            ism += [np.mean(scores)] if scores else []
            fdfr.append((len(vectors) - len(scores)) / len(vectors))
        assert rows[prompt, "fdfr_anti_dreambooth"] == pytest.approx(np.mean(fdfr))
        assert rows[prompt, "ism_anti_dreambooth"] == pytest.approx(np.mean(ism), abs=1e-5)
    assert 0 < rows.xs("fdfr_anti_dreambooth", level="metric").mean() < 1, "some images have a face, and some have none"
    page = report(finished, Drawings(b"", b"", b"", b""))
    assert '<a href="#prompts">By prompt</a>' in page and "a dslr portrait of sks person" in page
    assert "This run has none: nobody in it is public" in page
    told = prompt_lines(finished)
    assert told[0] == 'By prompt, "a photo of sks person":' and told[1].startswith("aspl 1.00: FDFR ")


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (
            ["--target", "id29"],
            "target 'id29' is a subject of this run: images of a person can't impersonate that person",
        ),
        (["--target", "id3"], "dataset 'celebahq' has no target 'id3': "),
        ([], "dataset 'celebahq' has no target '': the dataset has no public people"),
        (["--target", "id31", "--defense", "iddm"], "defense 'iddm' needs public people, whose mean is its decoy, and"),
    ],
)
def test_a_wrong_target(more: list[str], complaint: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDDMBENCH_WEIGHTS", str(world / "weights"))
    refused(run(*arguments(world, "--protocol", "amt-gan", "--attacker", WHOLE, *more)), complaint)


def test_everybody_is_a_subject_where_no_threshold_is_needed(world: Path) -> None:
    """Anti-DreamBooth's sets with all people as subjects: no threshold, ranks among them."""
    from iddmbench.photos.dataset import DATASETS

    data = DATASETS.get("vggface2")(root=world / "photos", public=0, fewest=2).load()
    assert len(data.subjects) == 4 and data.public == ()
    one = data.subjects[0]
    assert [len(photos) for photos in (one.references, one.enrolment, one.surrogate)] == [2, 2, 2]
    assert [photos[0].name.split("/")[1] for photos in (one.surrogate, one.references, one.enrolment)] == [
        "set_A",
        "set_B",
        "set_C",
    ]


def test_taken_for_counts_strictly_above() -> None:
    target = np.array([1.0, 0.0])
    subjects = [np.array([[0.5, 0.1], [0.6, 0.0]]), np.array([[0.0, 1.0], [0.0, 0.0], [0.9, 0.1]])]
    found = taken_for(target, subjects, 0.5)
    assert found.value == 2 / 5 and (found.n, found.groups) == (5, 2) and 0 < found.low < 0.4 < found.high < 1
