"""An exported model: a folder with an adapter that other programs load, and its card."""

import json
from pathlib import Path

from iddmbench import __version__
from iddmbench.errors import UserError
from iddmbench.export.card import model_card
from iddmbench.export.find import FoundModel
from iddmbench.models.recipe import trigger_words
from iddmbench.personalize.write_lora import FILES, Format, write_lora
from iddmbench.store.files import replacing

ARCHITECTURES = {768: "stable-diffusion-v1/lora", 1024: "stable-diffusion-v2/lora"}
"""As the model specification of safetensors calls them, by the width of the text."""


def check_target(out: Path) -> None:
    """Raises UserError when something is in the way."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{out} already exists and is not empty: give another folder with --out")


def write_export(model: FoundModel, out: Path, form: Format) -> Path:
    """Fill the new folder `out` with the adapter and README.md; returns the adapter's path.

    Kohya's file is named after the folder, since web UIs know a LoRA by its file's name. Raises UserError when `out` is not
    empty or can't be written.
    """
    check_target(out)
    name = FILES[form] if form == "diffusers" else f"{out.resolve().name}.safetensors"
    try:
        with replacing(out) as part:
            part.mkdir(parents=True)
            write_lora(part / name, model.weights, model.lora, form, metadata(model))
            (part / "README.md").write_text(model_card(model, name, form), encoding="utf-8")
            if out.is_dir():
                out.rmdir()
    except OSError as error:
        raise UserError(f"{out} can't be written: {error.strerror or error}") from error
    return out / name


def metadata(model: FoundModel) -> dict[str, str]:
    """What the file says of itself. The person is not named: the file goes where the model goes."""
    base, prompts = model.stages.base, model.stages.base.recipe.prompts
    words = ", ".join(trigger_words(prompts))
    found = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": f"LoRA of one person, {model.condition.title}",
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
    return found | ({"modelspec.architecture": architecture} if architecture else {})


def _prediction(base) -> str:  # type: ignore[no-untyped-def]
    stored = json.loads((base.folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    return {"v_prediction": "v"}.get(stored.get("prediction_type"), "epsilon")
