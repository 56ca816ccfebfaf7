"""Models that somebody else trained: `evaluate` makes their images by the protocol's prompts and judges them as a run's."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_base import write_base
from typer.testing import CliRunner

import iddmbench as ib
from iddmbench.cli import app
from iddmbench.errors import UserError
from iddmbench.models.base import load_base
from iddmbench.personalize.read_model import models_by_person
from iddmbench.seeds import Seeds

pytestmark = [pytest.mark.usefixtures("plugins"), pytest.mark.slow]
LORA = {"alpha": 12.0, "targets": ["to_q", "to_k", "to_v", "conv1", "proj_in"], "steps": 10, "learning_rate": 5e-2}
FILE = "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def finished(plugins: None, base: Path, place: Path) -> ib.Result:
    settings = {
        "dataset": "tiny-orl",
        "base": str(base),
        "subjects": 2,
        "images_per_prompt": 2,
        "attackers": ("coarse", "fine"),
    }
    strengths = {"strengths": [1.0], "lora": LORA}
    return ib.run("random-noise", out=place / "run", cache=place / "run-cache", **strengths, **settings)


@pytest.fixture(scope="module")
def exports(finished: ib.Result, place: Path) -> Path:
    """The run's models, by condition and form: ROOT/FORM/CONDITION/PERSON/."""
    for form in ("diffusers", "kohya"):
        for condition in ("none", "random-noise-1.00"):
            for person in ("s29", "s30"):
                out = place / "exports" / form / condition / person
                options = ["--subject", person, "--condition", condition, "--format", form, "--out", str(out)]
                options += ["--cache", str(place / "run-cache")]
                done = CliRunner().invoke(app, ["export", str(finished.folder.path), *options])
                assert done.exit_code == 0, done.output
    return place / "exports"


@pytest.fixture
def adapter(exports: Path) -> Path:
    """One person's file."""
    return exports / "diffusers" / "random-noise-1.00" / "s29" / FILE


def evaluate(base_folder: Path, place: Path, adapter: Any, **options: Any) -> ib.Result:
    usual = {"dataset": "tiny-orl", "attackers": "coarse", "base": str(base_folder), "images_per_prompt": 1}
    return ib.evaluate(adapter=adapter, **usual | {"cache": place / "cache"} | options)


def figures(result: ib.Result, table: str) -> pd.DataFrame:
    frame = getattr(result.folder, table)
    return frame.drop(columns="cell", errors="ignore").sort_values(
        [c for c in ("strength", "defense", "subject", "attacker", "metric", "policy", "image") if c in frame]
    )


@pytest.mark.parametrize("form", ["diffusers", "kohya"])
def test_exported_models_give_their_runs_figures_bit_for_bit(
    form: str, finished: ib.Result, exports: Path, base: Path, place: Path
) -> None:
    found = evaluate(
        base,
        place,
        exports / form / "random-noise-1.00",
        baseline_adapter=exports / form / "none",
        attackers=("coarse", "fine"),
        images_per_prompt=2,
        name="random-noise",
    )
    assert found.conditions == finished.conditions == ["none", "random-noise-1.00", "generic"]
    for table in ("summary", "probes", "images"):
        one, other = (figures(result, table).reset_index(drop=True) for result in (found, finished))
        if table == "summary":  # `evaluate` does not see the protected photos
            other = other[~other["metric"].str.startswith("photo_")].reset_index(drop=True)
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    pd.testing.assert_frame_equal(found.folder.calibration, finished.folder.calibration, check_exact=True)
    for person in ("s29", "s30"):
        own, theirs = (np.stack(r.folder.pictures("images", "random-noise-1.00", person)) for r in (found, finished))
        assert np.array_equal(own, theirs)
    assert found.folder.config["protocol"] == finished.folder.config["protocol"]
    # This base makes no faces, so nobody has a share of links to compare.
    assert ib.compare(found, finished.at("random-noise-1.00"), "fta", "coarse").difference.value == 0
    assert (found.cells["seconds_generate"] > 0).all()


def test_it_says_how_much_is_in_effect_and_what_it_does(base: Path, place: Path, adapter: Path) -> None:
    found = evaluate(base, place, adapter, subject="s29")
    count = len(load_file(adapter))
    (note,) = [note for note in found.notes if note.startswith("model of 's29' (diffusers)")]
    assert f"all {count} tensors applied" in note
    levels = re.search(r"differ from the base's own by ([0-9.]+) gray levels", note)
    assert levels is not None and float(levels[1]) > 1
    # The very difference of the images that are judged, on the prompts' first images: here each has one.
    own, base_own = (
        np.stack(found.folder.pictures("images", c, "s29")).astype(int) for c in ("adapter-1.00", "generic")
    )
    assert float(levels[1]) == pytest.approx(np.abs(own - base_own).mean(), abs=0.06)
    assert found.conditions == ["adapter-1.00", "generic"] and str(place) not in json.dumps(
        found.folder.config["notes"]
    )
    assert any("the utility index needs images of the undefended" in note for note in found.notes)
    again = evaluate(base, place, adapter.parent, subject="s29")  # its folder is the same model
    assert again.cells["cached"].all()
    pd.testing.assert_frame_equal(again.summary(), found.summary())


def test_images_of_the_undefended_model_may_be_given(
    finished: ib.Result, base: Path, place: Path, exports: Path
) -> None:
    images = finished.folder.path / "images"
    models = exports / "kohya" / "random-noise-1.00"
    found = evaluate(base, place, models, baseline=images / "none", images_per_prompt=2, name="random-noise")
    one, other = (r.at("none").utility.closeness_efficientnet_lite2 for r in (found, finished))
    assert (one.value, one.low, one.high) == (other.value, other.low, other.high) and one.known
    with pytest.raises(UserError, match="4 images of 's29' beside models that make 2"):
        evaluate(base, place, models, baseline=images / "none")


def test_what_peft_writes_and_a_dreambooth_folder(base: Path, place: Path, tmp_path: Path) -> None:
    tiny = load_base(str(base))
    model = get_peft_model(tiny.unet, LoraConfig(r=2, lora_alpha=6, target_modules=["to_q", "conv1"]))
    generator = Seeds(2).torch()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    model.save_pretrained(tmp_path / "models" / "s29")
    shutil.copytree(base, tmp_path / "models" / "s30")
    unet = tmp_path / "models" / "s30" / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: x * 1.3 for name, x in load_file(unet).items()}, unet)
    notes = evaluate(base, place, tmp_path / "models").notes
    assert any(note.startswith("model of 's29' (peft): all") for note in notes), notes
    assert any(note.startswith("model of 's30' (DreamBooth folder): all") for note in notes), notes


def test_people_without_photos_and_words_that_no_prompt_holds(base: Path, place: Path, adapter: Path) -> None:
    found = evaluate(base, place, {"s29": adapter, "bob": adapter}, prompts=["a photo of person"])
    assert f"no enrolment photos of 'bob': {FILE} left out" in found.notes
    assert any("was trained on 'a photo of sks person', which none of the prompts contains" in n for n in found.notes)


# ---- whose model lies where -----------------------------------------------------------------------------------------


def test_whose_model_lies_where(tmp_path: Path) -> None:
    for name in ("ann.safetensors", "bob/x.safetensors", "eve/unet/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    people = {"ann": tmp_path / "ann.safetensors", "bob": tmp_path / "bob", "eve": tmp_path / "eve"}
    assert models_by_person(tmp_path) == people
    assert models_by_person(tmp_path, ["bob"]) == {"bob": tmp_path / "bob"}
    assert models_by_person(tmp_path / "eve", ["zoe"]) == {"zoe": tmp_path / "eve"}
    assert models_by_person(tmp_path / "bob", ["zoe"]) == {"zoe": tmp_path / "bob"}
    assert models_by_person({"zoe": tmp_path / "bob"}) == {"zoe": tmp_path / "bob"}
    for given, subjects, said in (
        (tmp_path / "eve", [], "is a single model: name its person with subject"),
        (tmp_path, ["bo"], "no model of 'bo': did you mean 'bob'"),
        (tmp_path / "x", [], "there is no "),
        ({}, [], "no model given"),
    ):
        with pytest.raises(UserError, match=said):
            models_by_person(given, subjects)
    (tmp_path / "ann").mkdir()
    with pytest.raises(UserError, match="holds two models of 'ann'"):
        models_by_person(tmp_path)


# ---- what is refused ------------------------------------------------------------------------------------------------


def changed(adapter: Path, out: Path, change: Any) -> Path:
    save_file({k: v.contiguous() for k, v in change(load_file(adapter)).items()}, out)
    return out


def a_key(tensors: dict[str, torch.Tensor], part: str = "lora_A") -> str:
    return next(key for key in sorted(tensors) if part in key and "to_q" in key)


def with_nan(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tensors[a_key(tensors)][0, 0] = np.nan
    return tensors


def of_another_base(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: torch.cat([x, x], 1) if "lora_A" in key else x for key, x in tensors.items()}


def of_two_ranks(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors | {a_key(tensors): tensors[a_key(tensors)][:2]}


TEXT = "text_encoder.text_model.encoder.layers.9.mlp.fc1.lora_{}.weight"
SDXL = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_{}.weight"
REFUSED = {
    "another base": (of_another_base, ["is for another base", "base '"]),
    "two ranks": (of_two_ranks, ["have ranks 2 and 4, which must be equal"]),
    "NaN": (with_nan, ["holds NaN or infinity in ", "to_q"]),
    "some tensors fit": (
        lambda x: {k.replace("mid_block", "mid_blocks"): v for k, v in x.items()},
        ["only ", "tensors fit base", "mid_blocks"],
    ),
    "no tensor fits": (lambda x: {f"other.{k}": v for k, v in x.items()}, ["none of its ", "it has no effect"]),
    "a larger text encoder": (
        lambda x: x | {TEXT.format("A"): torch.zeros(2, 5), TEXT.format("B"): torch.zeros(5, 2)},
        ["only ", "no module for text_encoder"],
    ),
    "SDXL": (
        lambda x: x | {SDXL.format("A"): torch.zeros(4, 2048), SDXL.format("B"): torch.zeros(32, 4)},
        ["is a LoRA of Stable Diffusion XL, which is not supported"],
    ),
    "it does nothing": (
        lambda x: {k: v * 0 if "lora_B" in k else v for k, v in x.items()},
        ["does nothing", "0.00 gray levels"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_can_not_be_judged_is_refused_in_one_line(
    case: str, base: Path, place: Path, adapter: Path, tmp_path: Path
) -> None:
    change, parts = REFUSED[case]
    changed(adapter, tmp_path / "s29.safetensors", change)
    arguments = ["evaluate", "--adapter", str(tmp_path), "--base", str(base), "--dataset", "tiny-orl"]
    arguments += ["--attacker", "coarse", "--cache", str(place / "cache"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.exit_code == 2 and len(lines) == 1 and "Traceback" not in done.output, done.output
    assert str(tmp_path / "s29.safetensors") in lines[0] and all(part in lines[0] for part in parts), lines[0]
    assert not (tmp_path / "out" / "summary.parquet").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base": None}, "needs the base model it was trained on"),
        ({"images": {"s29": []}}, "images or an adapter, not both"),
        ({"images_per_prompt": 0}, "0 is too few"),
        ({"subject": ["s29", "s30"]}, "is a single model: name its person with subject"),
        ({"subject": "bob"}, r"nobody of the adapters \('bob'\) has enrolment photos"),
        ({"sampling": {"step": 3}}, "no setting 'step'"),
        ({"adapter": None, "subject": ()}, "give images, or an adapter"),
        ({"adapter": None, "images": {"s29": []}, "subject": "s29"}, "subject goes with an adapter"),
    ],
)
def test_one_line_says_what_is_wrong(
    options: dict[str, Any], said: str, base: Path, place: Path, adapter: Path
) -> None:
    with pytest.raises(UserError, match=said) as error:
        evaluate(base, place, **{"adapter": adapter, "subject": "s29"} | options)
    assert "\n" not in str(error.value)


def test_an_empty_folder_and_pickled_files(base: Path, place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no model: put one per person there, .*/PERSON.safetensors"):
        evaluate(base, place, tmp_path)
    (tmp_path / "s29.ckpt").touch()
    with pytest.raises(UserError, match="is a pickled file"):
        evaluate(base, place, tmp_path)


# ---- the command line -----------------------------------------------------------------------------------------------


def test_the_command(base: Path, place: Path, adapter: Path, tmp_path: Path) -> None:
    options = ["--adapter", str(adapter), "--base", str(base), "--subject", "s29", "--dataset", "tiny-orl"]
    options += ["--images-per-prompt", "1", "--attacker", "coarse", "--cache", str(place / "cache")]
    done = CliRunner().invoke(app, ["evaluate", *options, "--sampling", "steps=2", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "note: model of 's29' (diffusers): all" in done.output and "gray levels" in done.output
    report = (tmp_path / "out" / "report.html").read_text()
    assert "iddmbench evaluate" in report and "--adapter ADAPTER" in report and "--subject s29" in report
    found = ib.open_run(tmp_path / "out")
    assert found.conditions == ["adapter-1.00", "generic"]
    with pytest.raises(UserError, match="an evaluation"):
        found.folder.check_made()
