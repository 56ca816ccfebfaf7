"""An exported model: a folder that other programs load, and its card."""

import json
from pathlib import Path

from iddmbench import __version__
from iddmbench.errors import UserError
from iddmbench.export.card import kind_of, model_card
from iddmbench.export.eval_results import FILE, eval_results
from iddmbench.export.find import FoundModel
from iddmbench.models.recipe import LoraSettings, trigger_words
from iddmbench.personalize.embedding_file import FILE as EMBEDDING
from iddmbench.personalize.embedding_file import write_embedding
from iddmbench.personalize.trainer import PersonalizedModel
from iddmbench.personalize.write_dreambooth import write_dreambooth
from iddmbench.personalize.write_lora import FILES, Format, write_lora
from iddmbench.store.files import replacing

ARCHITECTURES = {768: "stable-diffusion-v1", 1024: "stable-diffusion-v2"}
"""As the model specification of safetensors calls them, by the width of the text."""


def check_target(out: Path) -> None:
    """Raises UserError when something is in the way."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{out} already exists and is not empty: give another folder with --out")


def write_export(model: FoundModel, out: Path, form: Format, benchmark: str | None = None) -> Path:
    """Fill the new folder `out` with the model and README.md, and with .eval_results for a `benchmark` dataset; returns the
    path of the LoRA's or embedding's file, or of the folder that a whole model is loaded from, which is `out` itself.

    Kohya's file is named after the folder, since web UIs know a LoRA by its file's name. Raises UserError when `out` is not
    empty or can't be written, and for Kohya's format of what is not a LoRA.
    """
    check_target(out)
    made = model.personalized()
    if form != "diffusers" and not (made.weights and isinstance(model.lora, LoraSettings)):
        raise UserError(
            f"--format {form} is for LoRAs, and run {model.run.name} has models of '{model.stages.personalizer.name}': use "
            "--format diffusers"
        )
    name = file_name(made, out, form)
    results = None if benchmark is None else eval_results(model.run, model.condition, benchmark)
    try:
        with replacing(out) as part:
            part.mkdir(parents=True)
            _write(part, name, made, model, form)
            (part / "README.md").write_text(model_card(model, name, form), encoding="utf-8")
            if results is not None:
                (part / FILE).parent.mkdir()
                (part / FILE).write_text(results, encoding="utf-8")
            if out.is_dir():
                out.rmdir()
    except OSError as error:
        raise UserError(f"{out} can't be written: {error.strerror or error}") from error
    return out / name


def file_name(made: PersonalizedModel, out: Path, form: Format) -> str:
    """The file in the folder; "" where the folder itself is the model."""
    if made.placeholder is not None:
        return EMBEDDING
    if not made.weights:
        return ""
    return FILES[form] if form == "diffusers" else f"{out.resolve().name}.safetensors"


def _write(folder: Path, name: str, made: PersonalizedModel, model: FoundModel, form: Format) -> None:
    facts = metadata(model)
    if made.placeholder is not None:
        write_embedding(folder / name, made.placeholder, facts)
    elif not made.weights:
        write_dreambooth(folder, model.stages.base, made.replaced, facts)
    else:
        assert isinstance(model.lora, LoraSettings)
        write_lora(folder / name, made.weights, model.lora, form, facts)


def metadata(model: FoundModel) -> dict[str, str]:
    """What the file says of itself. The person is not named: the file goes where the model goes."""
    base, prompts = model.stages.base, model.stages.base.recipe.prompts
    words = ", ".join(trigger_words(prompts))
    found = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": f"{kind_of(model)} of one person, {model.condition.title}",
        "modelspec.trigger_phrase": prompts.instance,
        "modelspec.description": "Measured by iddmbench; see README.md. Does not guarantee anonymity.",
        "modelspec.prediction_type": str(_prediction(base)),
        "modelspec.resolution": f"{base.side}x{base.side}",
        "trigger_words": words,
        # Web UIs offer these words.
        "ss_tag_frequency": json.dumps({"person": {prompts.instance: len(model.cell.subject.references)}}),
        "iddmbench.version": __version__,
        "iddmbench.condition": model.condition.label,
        "iddmbench.base": base.fingerprint,
    }
    config = json.loads((base.folder / "unet" / "config.json").read_text(encoding="utf-8"))
    architecture = ARCHITECTURES.get(config.get("cross_attention_dim"))
    if architecture:
        kinds = {"LoRA": "/lora", "Textual inversion": "/textual-inversion"}
        found["modelspec.architecture"] = architecture + kinds.get(kind_of(model), "")
    return found


def _prediction(base) -> str:  # type: ignore[no-untyped-def]
    stored = json.loads((base.folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    return {"v_prediction": "v"}.get(stored.get("prediction_type"), "epsilon")
