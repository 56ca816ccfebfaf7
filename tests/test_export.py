"""What `iddmbench export` writes is what plain diffusers loads, and makes the suite's own images there."""

import json
import re
import shutil
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import refused
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from safetensors import safe_open
from tiny_base import write_base
from typer.testing import CliRunner, Result

from iddmbench.cells.stages import ADAPTER
from iddmbench.cli import app
from iddmbench.export.eval_results import TASKS
from iddmbench.export.find import find_model
from iddmbench.models.base import base_folder, open_base
from iddmbench.models.recipe import Sampling, trigger_words
from iddmbench.personalize.read_lora import read_adapter
from iddmbench.personalize.sample import starting_noise
from iddmbench.results.run_folder import RunFolder
from iddmbench.run import pipeline
from iddmbench.run.config import make_config
from iddmbench.seeds import Seeds
from iddmbench.store.files import read_tensors

pytestmark = pytest.mark.usefixtures("plugins")

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "time_emb_proj")
FORMATS = ("diffusers", "kohya")


@dataclass(frozen=True)
class Finished:
    out: Path
    cache: Path
    base: Path

    @property
    def folder(self) -> RunFolder:
        return RunFolder.open(self.out)


def make_run(where: Path, base: str, **changes: object) -> Finished:
    options: dict[str, object] = {"dataset": "tiny-orl", "subjects": 2, "base": base, "strengths": (1.0,)}
    options |= {"attackers": ("coarse",), "images_per_prompt": 1}
    done = Finished(where / "run", where / "cache", base_folder(base))
    assert pipeline.run(make_config(options | changes), done.out, done.cache) == 0
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, plugins: None) -> Finished:
    """Convolutions have LoRA too, and alpha is not the rank: who forgets either gets other images."""
    where = tmp_path_factory.mktemp("tiny")
    lora = {"alpha": 12.0, "targets": [*TARGETS, *CONVOLUTIONS], "steps": 10, "learning_rate": 5e-2}
    base = str(write_base(where / "base"))
    return make_run(where, base, defenses=("random-noise", "blur"), lora=lora)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory, plugins: None) -> Finished:
    """The embedded base, trained for a moment."""
    return make_run(
        tmp_path_factory.mktemp("micro"),
        "micro",
        defenses=("random-noise",),
        anchors=False,
        subjects=1,
        lora={"steps": 6, "batch_size": 2, "learning_rate": 1e-2},
        prompts=("a photo of sks person, facing left",),
    )


def export(run: Finished, out: Path, *arguments: str) -> Result:
    usual = ["export", str(run.out), "--cache", str(run.cache), "--out", str(out)]
    return CliRunner().invoke(app, [*usual, *arguments])


def exported(run: Finished, out: Path, *arguments: str) -> Path:
    result = export(run, out, *arguments)
    assert result.exit_code == 0, result.output
    return out


def plain_images(run: Finished, adapter: Path | None, subject: str) -> np.ndarray:
    """Plain diffusers on the base's folder: the protocol's prompts, sampler and noise; no code of the suite makes an image."""
    config = run.folder.config
    pipe = StableDiffusionPipeline.from_pretrained(run.base)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, algorithm_type="dpmsolver++")
    pipe.set_progress_bar_config(disable=True)
    if adapter is not None:
        pipe.load_lora_weights(adapter)
    seeds = Seeds(0).child("generate", subject)
    prompts, noise = starting_noise(open_base(str(run.base)), seeds, config["prompts"], config["images_per_prompt"])
    sampling = Sampling.model_validate(config["sampling_settings"])
    images = pipe(
        prompts,
        latents=noise,
        num_inference_steps=sampling.steps,
        guidance_scale=sampling.guidance,
        output_type="np",
    ).images
    return (images * 255).round().astype(np.uint8)


def own_images(run: Finished, subject: str, condition: str) -> np.ndarray:
    return np.stack(run.folder.pictures("images", condition, subject))


def difference(a: np.ndarray, b: np.ndarray) -> int:
    """Largest, in gray levels."""
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("condition", ["none", "random-noise-1.00"])
def test_plain_diffusers_makes_the_suites_own_images(run: Finished, tmp_path: Path, form: str, condition: str) -> None:
    subject = ["--subject", "s30", "--condition", condition, "--format", form]
    out = exported(run, tmp_path / "mine", *subject)
    found, own = plain_images(run, out, "s30"), own_images(run, "s30", condition)
    assert difference(found, own) <= 1
    assert difference(plain_images(run, None, "s30"), own) > 20, "the adapter has no effect that could be missed"


@pytest.mark.parametrize("form", FORMATS)
def test_the_embedded_base_in_plain_diffusers(embedded: Finished, tmp_path: Path, form: str) -> None:
    out = exported(embedded, tmp_path / "e", "--subject", "s29", "--condition", "random-noise-1.00", "--format", form)
    found, own = plain_images(embedded, out, "s29"), own_images(embedded, "s29", "random-noise-1.00")
    assert difference(found, own) <= 1
    assert difference(plain_images(embedded, None, "s29"), own) > 20


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_exported_is_read_again_bit_for_bit(run: Finished, tmp_path: Path, form: str) -> None:
    arguments = ["--subject", "s29", "--condition", "none", "--format", form]
    out = exported(run, tmp_path / "x", *arguments)
    model = find_model(run.folder, "s29", "none", None, run.cache)
    again = read_adapter(out, model.stages.base)
    assert again.layout.lower() == form and again.applied == len(model.weights) and not again.ignored
    assert again.model.weights is not None and again.model.weights.keys() == model.weights.keys()
    assert all(torch.equal(again.model.weights[key], value) for key, value in model.weights.items())
    assert {(x.rank, x.alpha) for x in again.model.layers.values()} == {(4, 12.0)}
    assert again.trigger == "a photo of sks person"
    # Someone who exports in the one form and the other has the same tensors.
    assert any(value.ndim == 4 and value.shape[-1] == 3 for value in model.weights.values())


def test_the_files_say_what_they_are(run: Finished, tmp_path: Path) -> None:
    for form, file in (("diffusers", "pytorch_lora_weights.safetensors"), ("kohya", "kohya.safetensors")):
        out = exported(run, tmp_path / form, "--subject", "s29", "--condition", "none", "--format", form)
        assert sorted(path.name for path in out.iterdir()) == sorted(["README.md", file])
        with safe_open(out / file, "pt") as opened:
            keys, said = set(opened.keys()), opened.metadata()
        assert said["trigger_words"] == "sks" and said["modelspec.trigger_phrase"] == "a photo of sks person"
        assert said["iddmbench.condition"] == "none" and "s29" not in json.dumps(said)
        if form == "kohya":
            module = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0"
            assert {f"{module}.alpha", f"{module}.lora_down.weight", f"{module}.lora_up.weight"} <= keys
            assert said["ss_network_dim"] == "4" and said["ss_network_alpha"] == "12.0"
            assert json.loads(said["ss_network_args"]) == {"conv_dim": "4", "conv_alpha": "12.0"}
        else:
            assert "unet.down_blocks.0.resnets.0.conv1.lora_A.weight" in keys
            stored = json.loads(said["lora_adapter_metadata"])
            assert stored["unet.r"] == 4 and stored["unet.lora_alpha"] == 12.0


def test_the_card_says_what_was_measured(run: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    which = ["--subject", "s29", "--condition", "random-noise-1.00", "--format", "kohya"]
    refused(export(run, tmp_path / "c", *which, "--eval-results", "ann/b"), "no figure of random-noise-1.00 to show")
    monkeypatch.setitem(TASKS, "hits", ("coarse", "rank1_hit"))  # coarse is too weak for a worst case
    out = exported(run, tmp_path / "c", *which, "--eval-results", "ann/benchmark")
    card = (out / "README.md").read_text()
    for_the_hub = (out / ".eval_results" / "iddmbench.yaml").read_text()
    assert "id: ann/benchmark" in for_the_hub and "task_id: hits" in for_the_hub
    assert "on base custom" in " ".join(for_the_hub.split())
    assert "s29" not in for_the_hub and str(run.base) not in for_the_hub
    summary = run.folder.summary
    rows = summary[(summary["defense"] == "random-noise") & (summary["metric"] == "rank1_hit")]
    row = rows[(rows["attacker"] == "coarse") & (rows["policy"] == "headline")].iloc[0]
    # The interval of the run's own table, in per cent.
    line = next(text for text in card.splitlines() if text.startswith("| coarse |"))
    first = line.split("|")[3].replace(">", "").replace("<", "")
    numbers = [float(text) for text in re.findall(r"[0-9.]+", first)]
    assert numbers == pytest.approx([100 * row[name] for name in ("value", "low", "high")], abs=0.5)
    assert "does not guarantee" in card and "`coarse`" in card and "2 people" in card and "31 people" in card
    assert "`sks`" in card and "<lora:c:1>" in card and "alpha 12" in card
    assert "s29" not in card, "the card names the person"
    hits = run.folder.probes
    hits = hits[(hits["defense"] == "random-noise") & (hits["subject"] == "s29")]
    assert len(hits) == 2
    assert f"coarse {int((hits['rank'] == 1).sum())} of {len(hits)}" in card


def test_the_card_of_iddm_says_whose_it_is(embedded: Finished) -> None:
    from iddmbench.export.card import model_card
    from iddmbench.export.find import FoundModel
    from iddmbench.results.summary import Condition

    found = find_model(embedded.folder, "s29", "random-noise-1.00", 0, embedded.cache)
    iddm = FoundModel(found.run, found.stages, found.cell, Condition("iddm", 1.0), found.weights)
    assert "our reconstruction from the abstract and the outline of v2" in " ".join(
        model_card(iddm, "x", "kohya").split()
    )


WRONG = {
    "subject": (["--subject", "s92", "--condition", "none"], ["no subject 's92': did you mean 's29'?"]),
    "condition": (["--subject", "s29", "--condition", "random-noise"], ["no condition", "random-noise-1.00"]),
    "seed": (["--subject", "s29", "--condition", "none", "--seed", "3"], ["no seed 3, but 0"]),
    "generic": (["--subject", "s29", "--condition", "generic"], ["nothing was trained"]),
    "outputs only": (["--subject", "s29", "--condition", "blur-1.00"], ["changes the generated images", "none"]),
    "format": (["--subject", "s29", "--condition", "none", "--format", "koya"], ["did you mean 'kohya'?"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(case: str, run: Finished, tmp_path: Path) -> None:
    arguments, parts = WRONG[case]
    refused(export(run, tmp_path / "out", *arguments), *parts)
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_told(run: Finished, tmp_path: Path) -> None:
    wanted = ["--subject", "s29", "--condition", "none"]
    refused(export(Finished(tmp_path / "nowhere", run.cache, run.base), tmp_path / "o", *wanted), "no such run folder")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    refused(export(run, tmp_path / "full", *wanted), "not empty")
    # A cache from which the model has gone: the command that trains it again.
    lost = Finished(run.out, tmp_path / "cache", run.base)
    refused(
        export(lost, tmp_path / "o", *wanted), "not in the cache", "iddmbench run --defense random-noise", str(run.out)
    )
    failed = tmp_path / "failed"
    shutil.copytree(run.out, failed)
    cells = pd.read_parquet(failed / "cells.parquet")
    cells.loc[(cells["defense"] == "none"), ["status", "error"]] = ["failed", "RuntimeError: out of memory"]
    cells.to_parquet(failed / "cells.parquet", index=False)
    refused(export(Finished(failed, run.cache, run.base), tmp_path / "o", *wanted), "failed in run", "out of memory")


def test_bare_tensors_of_the_cache_are_the_adapter(run: Finished) -> None:
    model = find_model(run.folder, "s30", "none", 0, run.cache)
    path = model.stages.adapter(model.cell)
    assert path.name == ADAPTER
    stored = read_tensors(path)
    assert stored.keys() == model.weights.keys()


# ---- the embedded base in plain diffusers ---------------------------------------------------------------------------


def test_the_embedded_base_needs_no_arguments() -> None:
    result = CliRunner().invoke(app, ["base", "path", "micro"])
    pipe = StableDiffusionPipeline.from_pretrained(result.stdout.strip())
    pipe.set_progress_bar_config(disable=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = pipe("a photo of person", num_inference_steps=2).images[0]
    assert image.size == (64, 64) and np.asarray(image).std() > 1
    assert {part.dtype for part in (pipe.unet, pipe.vae, pipe.text_encoder)} == {torch.float32}


def test_the_embedded_base_is_the_leaderboards() -> None:
    """Its fingerprint is part of every result's key: how its configuration is written must not change it."""
    with zipfile.ZipFile(Path(__file__).parents[1] / "leaderboard" / "anchors" / "orl-micro.zip") as bundle:
        stored = json.loads(bundle.read("submission.json"))["run"]["base_fingerprint"]
    assert open_base("micro").fingerprint == stored


def test_a_base_is_the_same_whatever_dtype_its_configuration_names(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "a")
    other = tmp_path / "b"
    shutil.copytree(folder, other)
    config = other / "text_encoder" / "config.json"
    assert '"dtype": "float32"' in config.read_text()
    config.write_text(config.read_text().replace('"dtype": "float32"', '"dtype": "float16"'))
    assert open_base(str(folder)).fingerprint == open_base(str(other)).fingerprint
    third = tmp_path / "c"
    shutil.copytree(other, third)
    config = third / "text_encoder" / "config.json"
    config.write_text(config.read_text().replace('"num_attention_heads": ', '"num_attention_heads": 1'))
    assert open_base(str(folder)).fingerprint != open_base(str(third)).fingerprint


def test_trigger_words() -> None:
    prompts = open_base("micro").recipe.prompts
    assert trigger_words(prompts) == ["sks"]
    assert trigger_words(prompts.model_copy(update={"instance": "zwx man, portrait"})) == ["zwx", "man,", "portrait"]
