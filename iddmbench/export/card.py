"""The model card of an exported model: how to load it, what was measured, against whom, and what that does not say."""

import math

from iddmbench import __version__
from iddmbench.export.find import FoundModel
from iddmbench.models.base import EMBEDDED
from iddmbench.models.recipe import LoraSettings, trigger_words
from iddmbench.results.metric_info import COMPONENTS, INDEX, metric
from iddmbench.results.summary import UNDEFENDED, Condition, Summary, Value, written

PRIVACY = ("rank1_hit", "match_rate@1e-3", "ism")
UTILITY = (INDEX, "face_detection_rate", *COMPONENTS)
WORST = {"worst-case": "worst case over attackers that no defense in the run knows"}

DIFFUSERS = """from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

pipe = StableDiffusionPipeline.from_pretrained({base!r})
pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, algorithm_type="dpmsolver++")
pipe.load_lora_weights("FOLDER", weight_name={file!r})
pipe({prompt!r}, num_inference_steps={steps}, guidance_scale={guidance:g}).images[0]"""

WORD = """from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

pipe = StableDiffusionPipeline.from_pretrained({base!r})
pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, algorithm_type="dpmsolver++")
pipe.load_textual_inversion("FOLDER", weight_name={file!r})
pipe({prompt!r}, num_inference_steps={steps}, guidance_scale={guidance:g}).images[0]"""

WHOLE = """from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

pipe = StableDiffusionPipeline.from_pretrained("FOLDER")
pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, algorithm_type="dpmsolver++")
pipe({prompt!r}, num_inference_steps={steps}, guidance_scale={guidance:g}).images[0]"""

SNIPPETS = {"LoRA": DIFFUSERS, "Textual inversion": WORD, "Model": WHOLE}
TAGS = {"LoRA": "lora", "Textual inversion": "textual_inversion", "Model": "dreambooth"}

CARD = """---
library_name: diffusers
pipeline_tag: text-to-image
tags: [{tag}, text-to-image]
---

# {kind} of one person, {title}

Exported by iddmbench {version} from the run `{run}`. **It does not guarantee anonymity.** It may or may not lower how
often the face-recognition systems named below link this model's images to the person; other systems, other prompts, other
gallery photos and an attacker who prepares for this defense may do better.

- Base model: `{base}`{bound}
- {contents}
- Trigger words: `{trigger}`; prompts are like `{prompt}`
- Trained on {references} photos of one person, {steps_trained} steps, by {trainer}; seed {seed}

## Load it

```python
{snippet}
```

{location}{ui}## What was measured

{scope}

| attacker | kind | {privacy_titles} |
|---|---|{columns}
{privacy_rows}

Brackets are 95 % intervals{bootstrap}. Lower is more private. {threat}

{own}| utility of the images | this condition | undefended |
|---|---|---|
{utility_rows}

## What that does not say

- {method}
- The figures are for that run's conditions as a whole, over {subjects}; one person's model may leak more or less.
- Rates fall with the number of people that a linker has to choose from: here {gallery}. A small gallery makes it easy.
- The model can be trained further, merged or used with other prompts; nothing was measured for any of these.
- Anyone with the training photos can train an undefended model of this person.
"""


def model_card(model: FoundModel, file: str, form: str) -> str:
    """README.md of a folder that holds `file`. It does not name the person: the card goes where the model goes."""
    run, cell, recipe = model.run, model.cell, model.stages.base.recipe
    summary, lora = Summary(run), model.lora
    sampling, base = model.stages.sampling, str(run.config["base"])
    prompts = run.config["prompts"]
    kind, made = kind_of(model), model.personalized()
    word, prompt = made.placeholder, prompts[0]
    if word is not None:
        prompt = prompt.replace(word.words, word.token)
    snippet = SNIPPETS[kind].format(
        base="BASE" if base in EMBEDDED else base,
        file=file,
        prompt=prompt,
        steps=sampling.steps,
        guidance=sampling.guidance,
    )
    undefended = next((c for c in summary.conditions if c.defense == UNDEFENDED), None)
    return CARD.format(
        title=_title(model),
        version=__version__,
        run=run.name,
        base=base,
        kind=kind,
        tag=TAGS[kind],
        bound="" if kind == "Model" else f"; the {'adapter' if kind == 'LoRA' else 'embedding'} works with no other",
        contents=_contents(model),
        trigger=word.token if word else ", ".join(trigger_words(recipe.prompts)) or recipe.prompts.instance,
        prompt=prompt,
        references=len(cell.subject.references),
        steps_trained=lora.steps,
        trainer=_trainer(model),
        seed=cell.seed,
        snippet=snippet,
        location=f"`iddmbench base path {base}` prints BASE, the folder of the base model.\n\n"
        if base in EMBEDDED and kind != "Model"
        else "",
        ui=_ui(file, form),
        scope=_scope(model, summary),
        privacy_titles=" | ".join(f"{metric(name).title}, this condition | undefended" for name in PRIVACY),
        columns="---|" * 2 * len(PRIVACY),
        privacy_rows="\n".join(_privacy(summary, model.condition, undefended)) or "| not measured | |" + " |" * 6,
        bootstrap=" of the mean over people" if len(run.config["subjects"]) > 1 else "; those of one person say little",
        threat=_threat(model),
        own=_own(model),
        utility_rows="\n".join(_utility(summary, model.condition, undefended)),
        method=_method(model),
        subjects=_count(len(run.config["subjects"]), "person", "people"),
        gallery=_gallery(model),
    )


def kind_of(model: FoundModel) -> str:
    """What it is: "LoRA", "Textual inversion", or "Model", a whole one."""
    made = model.personalized()
    return "LoRA" if made.weights else "Textual inversion" if made.placeholder is not None else "Model"


def _contents(model: FoundModel) -> str:
    """What was trained, and how much of it."""
    made, tensors, settings = model.personalized(), len(model.weights), model.lora
    text = sum(name.startswith("text_encoder.") for name in model.weights)
    if isinstance(settings, LoraSettings):
        of_text = f"{text} of the text encoder" if text else "none of the text encoder"
        return f"Rank {settings.rank}, alpha {settings.alpha:g}; {tensors - text} tensors of the UNet, {of_text}"
    if made.placeholder is not None:
        return f"{len(made.placeholder.vectors)} token vectors for the word `{made.placeholder.token}`; no weights of the base"
    return f"A whole model in which {tensors - text} tensors of the UNet and {text} of the text encoder were trained"


def _title(model: FoundModel) -> str:
    if model.condition.defense == UNDEFENDED:
        return "undefended"
    return f"trained under {model.condition.defense} at strength {model.condition.strength:g}"


def _trainer(model: FoundModel) -> str:
    if model.stages.trainer is None:
        return "the owner"
    cleaned = f" after purification by {model.stages.trainer.purify}" if model.stages.trainer.purify else ""
    return f"somebody unauthorized, on protected photos{cleaned}"


def _ui(file: str, form: str) -> str:
    if form != "kohya":
        return ""
    name = file.removesuffix(".safetensors")
    return f"In a web UI: put `{file}` into its folder of LoRAs and write `<lora:{name}:1>` into the prompt.\n\n"


def _scope(model: FoundModel, summary: Summary) -> str:
    config = model.run.config
    people, prompts = len(config["subjects"]), len(config["prompts"])
    images = prompts * config["images_per_prompt"] * len(config["seeds"])
    return (
        f"Dataset `{config['dataset']}`, {_count(people, 'person', 'people')}, {images} images of each "
        f"({_count(prompts, 'prompt')} x {config['images_per_prompt']} images x {_count(len(config['seeds']), 'seed')}). Each "
        f"attacker compares every image with {_gallery(model)}. Attackers: {', '.join(_attackers(model, summary))}."
    )


def _attackers(model: FoundModel, summary: Summary) -> list[str]:
    table = model.run.calibration.drop_duplicates("attacker").set_index("attacker")
    titles = {str(name): str(table.loc[name, "title"]) for name in table.index}
    return [f"`{name}` ({titles[name]})" if titles.get(name) else f"`{name}`" for name in summary.attackers]


def _gallery(model: FoundModel) -> str:
    data = model.stages.data
    return f"{len(data.subjects) + len(data.public)} people"


def _privacy(summary: Summary, condition: Condition, undefended: Condition | None) -> list[str]:
    rows = []
    worst = [name for name in WORST if summary.get(condition, PRIVACY[0], name)]
    for name in [*summary.attackers, *worst]:
        kind = "white-box" if summary.white_box(condition, name) else "-" if name in WORST else "transfer"
        cells = []
        for figure in PRIVACY:
            cells += [written(figure, _get(summary, c, figure, name)) for c in (condition, undefended)]
        rows.append(f"| {WORST.get(name, name)} | {kind} | {' | '.join(cells)} |")
    return rows


def _utility(summary: Summary, condition: Condition, undefended: Condition | None) -> list[str]:
    rows = []
    for name in UTILITY:
        cells = [written(name, _get(summary, c, name)) for c in (condition, undefended)]
        rows.append(f"| {metric(name).title}: {metric(name).meaning} | {' | '.join(cells)} |")
    return rows


def _get(summary: Summary, condition: Condition | None, name: str, attacker: str = "") -> Value | None:
    return summary.get(condition, name, attacker) if condition else None


def _threat(model: FoundModel) -> str:
    known = model.cell.defense.surrogates()
    if not known:
        return "The defense optimized against none of these systems." if model.condition.strength is not None else ""
    return f"The defense optimized against {', '.join(known)} (white-box): its figures there say little about other systems."


def _own(model: FoundModel) -> str:
    """How the images of this very model fared, without an interval: they are one model's."""
    probes = model.run.probes
    own = model.condition.rows(probes)
    own = own[(own["subject"] == model.cell.subject.name) & (own["seed"] == model.cell.seed)]
    if own.empty:
        return ""
    hits = (own["rank"] == 1) & own["acquired"]
    parts = [
        f"{name} {int(hits[rows.index].sum())} of {len(rows)}" for name, rows in own.groupby("attacker", sort=False)
    ]
    return f"Of this model's own images, linked to the person at rank 1: {'; '.join(parts)}.\n\n"


def _method(model: FoundModel) -> str:
    name = model.condition.defense
    if name == "iddm":
        return (
            "IDDM (arXiv 2604.00903) has no released code: the method and its figures are our reconstruction from the abstract "
            "and the outline of v2, and may differ from the authors'."
        )
    if name == UNDEFENDED:
        return "Nothing protects the person here: this is the undefended model."
    paper = f" ({model.cell.defense.paper})" if model.cell.defense.paper else ""
    return f"The defense is iddmbench's own implementation of {name}{paper}."


def _count(number: float, one: str, many: str = "") -> str:
    assert not math.isnan(number)
    return f"{number:g} {one if number == 1 else many or one + 's'}"
