"""Models of `dreambooth` and `textual-inversion`: exported, used in plain diffusers, read again, submitted and verified."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_base import write_base
from typer.testing import CliRunner

import iddmbench as ib
from iddmbench.cli import app
from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel, load_base
from iddmbench.models.recipe import Sampling
from iddmbench.personalize.embedding_file import FILE, write_embedding
from iddmbench.personalize.read_model import models_by_person, read_model
from iddmbench.personalize.sample import starting_noise
from iddmbench.results.run_folder import RunFolder
from iddmbench.run import pipeline
from iddmbench.run.config import make_config
from iddmbench.seeds import Seeds
from iddmbench.submission.adapters import check_adapters
from iddmbench.submission.bundle import About, write_bundle
from iddmbench.submission.read import open_bundle
from iddmbench.submission.stages import load_parts

pytestmark = pytest.mark.usefixtures("plugins")

FULL = {"train_text_encoder": "true", "steps": "4", "learning_rate": "2e-3", "class_images": "2"}
WORD = {"steps": "4", "batch_size": "2", "learning_rate": "0.3", "vectors": "2"}
OPTIONS: dict[str, dict[str, str]] = {"dreambooth": FULL, "textual-inversion": WORD}


@dataclasses.dataclass(frozen=True)
class Finished:
    name: str
    out: Path
    cache: Path
    base: Path

    @property
    def folder(self) -> RunFolder:
        return RunFolder.open(self.out)

    def export(self, to: Path, *more: str) -> Any:
        words = ["export", str(self.out), "--cache", str(self.cache), "--out", str(to)]
        return CliRunner().invoke(app, [*words, "--subject", "s29", "--condition", "none", *more])


@pytest.fixture(scope="module", params=[*OPTIONS])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plugins: None) -> Finished:
    where = tmp_path_factory.mktemp(request.param)
    base = write_base(where / "base")
    options: dict[str, Any] = {"dataset": "tiny-orl", "subjects": 1, "base": str(base), "defenses": ("random-noise",)}
    options |= {"attackers": ("coarse",), "images_per_prompt": 1, "strengths": (1.0,)}
    options |= {"personalizer": request.param, "personalizer_options": OPTIONS[request.param]}
    done = Finished(request.param, where / "run", where / "cache", base)
    assert pipeline.run(make_config(options), done.out, done.cache) == 0
    return done


@pytest.fixture(scope="module")
def exported(run: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "models" / "s29"
    result = run.export(out)
    assert result.exit_code == 0, result.output
    return out


def test_plain_diffusers_makes_the_suites_own_images(run: Finished, exported: Path) -> None:
    config, whole = run.folder.config, run.name == "dreambooth"
    pipe = StableDiffusionPipeline.from_pretrained(exported if whole else run.base)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, algorithm_type="dpmsolver++")
    pipe.set_progress_bar_config(disable=True)
    prompts, noise = starting_noise(
        load_base(str(run.base)), Seeds(0).child("generate", "s29"), config["prompts"], config["images_per_prompt"]
    )
    sampling = Sampling.model_validate(config["sampling_settings"])

    def images(prompts: list[str]) -> np.ndarray:
        steps = {"num_inference_steps": sampling.steps, "guidance_scale": sampling.guidance}
        found = pipe(prompts, latents=noise, output_type="np", **steps).images
        return (found * 255).round().astype(int)

    own = np.stack(run.folder.pictures("images", "none", "s29")).astype(int)
    own = own[..., None].repeat(3, -1) if own.ndim == 3 else own
    if not whole:
        assert np.abs(images(prompts) - own).mean() > 0.5, "the word has an effect that could be missed"
        pipe.load_textual_inversion(exported, weight_name=FILE)
        prompts = [prompt.replace("sks", "<subject>") for prompt in prompts]
    assert np.abs(images(prompts) - own).max() <= 1


def test_the_folder_says_what_it_is(run: Finished, exported: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    card = (exported / "README.md").read_text(encoding="utf-8")
    if run.name == "dreambooth":
        parts = {"unet", "text_encoder", "vae", "tokenizer", "scheduler", "model_index.json"}
        assert names == {*parts, "README.md"}
        assert "tags: [dreambooth," in card and 'from_pretrained("FOLDER")' in card
        assert "of the text encoder were trained" in card
        file = exported / "unet" / "diffusion_pytorch_model.safetensors"
    else:
        assert names == {FILE, "README.md"}
        assert 'load_textual_inversion("FOLDER", weight_name=' in card and "'a photo of <subject> person'" in card
        assert "2 token vectors for the word `<subject>`" in card
        file = exported / FILE
    with safe_open(file, "pt") as opened:
        said = opened.metadata()
    assert said["iddmbench.condition"] == "none" and "s29" not in card + str(said)
    refused = run.export(exported.parent.parent / "kohya", "--format", "kohya")
    assert (
        refused.exit_code == 2
        and f"--format kohya is for LoRAs, and run run has models of '{run.name}'" in refused.stderr
    )


def test_evaluate_reads_it_again_with_the_runs_own_images(run: Finished, exported: Path, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"dataset": "tiny-orl", "base": str(run.base), "attackers": ("coarse",)}
    found = ib.evaluate(
        adapter=exported.parent, images_per_prompt=1, out=tmp_path / "out", cache=tmp_path / "cache", **chosen
    )
    own, again = (
        np.stack(folder.pictures("images", condition, "s29"))
        for folder, condition in ((run.folder, "none"), (found.folder, "adapter-1.00"))
    )
    assert np.array_equal(own, again)
    layout = "DreamBooth folder" if run.name == "dreambooth" else "textual inversion"
    assert any(note.startswith(f"model of 's29' ({layout}): all ") for note in found.notes), found.notes


def test_it_is_submitted_and_its_adapters_are_checked(run: Finished, tmp_path: Path) -> None:
    meta = write_bundle(run.folder, None, About("x"), tmp_path / "b.zip", run.cache)
    assert meta.run.personalizer == run.name and dict(meta.run.personalizer_options) == OPTIONS[run.name]
    bundle = open_bundle(tmp_path / "b.zip")
    _, base, plugin, settings, _, _ = load_parts(meta.run, {}, str(run.base), "cpu")
    assert plugin.name == run.name and check_adapters(bundle, base, plugin, settings) == []
    other = settings.model_copy(update={"train_text_encoder": False, "vectors": 1})
    assert "is not an adapter for the bundle's base and settings" in check_adapters(bundle, base, plugin, other)[0]
    wrong = meta.run.model_copy(update={"personalizer_options": {}})
    with pytest.raises(UserError, match="do not follow from the base's recipe"):
        load_parts(wrong, {}, str(run.base), "cpu")


# ---- embeddings from elsewhere -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return load_base(str(write_base(tmp_path_factory.mktemp("tiny"))))


def width(base: BaseModel) -> int:
    return base.text_encoder.get_input_embeddings().embedding_dim


def test_embeddings_of_other_programs(tiny: BaseModel, tmp_path: Path) -> None:
    """diffusers' script (one word, a matrix), web UIs (emb_params: the word is the file's name), a plain vector."""
    vectors = torch.randn(2, width(tiny), generator=Seeds(0).torch())
    for file, tensors, token in (
        ("a/learned_embeds.safetensors", {"<cat>": vectors}, "<cat>"),
        ("zed.safetensors", {"emb_params": vectors}, "zed"),
        ("one.safetensors", {"<cat>": vectors[0]}, "<cat>"),
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        save_file(tensors, tmp_path / file)
        path = tmp_path / "a" if "/" in file else tmp_path / file
        word = read_model(path, tiny).model.placeholder
        assert word is not None and (word.token, word.words) == (token, "sks")
        assert torch.equal(word.vectors, next(iter(tensors.values())).reshape(-1, width(tiny)))
    assert models_by_person(tmp_path / "a", ["s29"]) == {"s29": tmp_path / "a"}
    again = read_model(tmp_path / "a", tiny).model.placeholder
    assert again is not None
    write_embedding(tmp_path / "w.safetensors", dataclasses.replace(again, words="person"), {})
    assert read_model(tmp_path / "w.safetensors", tiny).trigger == "person"
    assert torch.equal(load_file(tmp_path / "w.safetensors")["<cat>"], vectors)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"<cat>": torch.zeros(1, 7)}, "is for another base: its vectors are 1 x 7, base"),
        ({"<cat>": torch.full((1, 1), torch.nan)}, "holds NaN or infinity in <cat>"),
        ({"person": None}, "placeholder 'person' is in the base's vocabulary already"),
        ({"<a>": None, "<b>": None}, "holds the vectors of 2 words: give a file with one"),
        ({"clip_l": None, "clip_g": None}, "embedding of Stable Diffusion XL, which is not supported"),
    ],
)
def test_embeddings_that_are_refused(tensors: dict[str, Any], message: str, tiny: BaseModel, tmp_path: Path) -> None:
    stored = {name: torch.zeros(1, width(tiny)) if x is None else x for name, x in tensors.items()}
    save_file(stored, tmp_path / FILE)
    with pytest.raises(UserError, match=message) as error:
        read_model(tmp_path, tiny)
    assert "\n" not in str(error.value)
