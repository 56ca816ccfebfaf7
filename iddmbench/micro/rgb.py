"""The colour base `micro-rgb`: generated faces of people who are in no dataset."""

from pathlib import Path

import numpy as np

from iddmbench.errors import UserError
from iddmbench.faces.attributes import BACKDROPS, LIGHTS, POSES, SMILES, portrait
from iddmbench.micro.data import Spread
from iddmbench.micro.domain import Domain, Original
from iddmbench.micro.gray import RECIPE as GRAY_RECIPE
from iddmbench.micro.text import COMMON
from iddmbench.synthetic.blocks import joined, load
from iddmbench.synthetic.draws import FACE_FRAME

AGES = ((35, "young"), (50, "middle-aged"), (200, "old"))
"""Upper ends in years, as faceres reads them."""

SUBJECT_TOO_CLOSE = 0.6
"""Training faces that the referee finds this close to a subject's first photo are left out."""

RECIPE = {
    **GRAY_RECIPE,
    "grayscale": False,
    # of four settings tried on six people for choosing settings (docs/protocol.md), the cheapest that lost nothing
    "lora": {**GRAY_RECIPE["lora"], "steps": 100, "learning_rate": 8e-3},
    "frame": FACE_FRAME,  # of generated portraits that is the whole picture
    "prompts": {
        "instance": "a photo of sks person",
        "class": "a photo of person",
        "captions": "portrait",
        "evaluation": [
            "a photo of sks person",
            "a photo of sks person, facing left",
            "a photo of sks person, facing right, smiling",
            "a photo of sks person, pale backdrop",
        ],
    },
}

CARD = """---
license: other
license_name: research-only
library_name: diffusers
pipeline_tag: text-to-image
---

# iddmbench micro-rgb

A latent diffusion model of 64 x 64 colour face photos, small enough to personalize on two CPU cores. It exists to run the
benchmark offline, end to end, through the code that runs Stable Diffusion. It is not meant for any other use.

- **Parts**: as `micro`: `AutoencoderKL` (8 x 8 x 32 latents, 2.9 M parameters), `UNet2DConditionModel` (128/192 channels,
  velocity prediction, 8.7 M), a two-layer `CLIPTextModel` with a word tokenizer. fp16 safetensors.
- **Data**: faces made by MobileStyleGAN (iddmbench/synthetic/data/README.md), one photo of each person, none of them a
  person of the dataset `synthetic`. The generator learned from FFHQ, and the weights started from those of `micro`, which
  saw ORL's public people.
- **Text**: captions name the head pose, a smile, light and backdrop (computed from the pixels), age group and sex (as
  faceres reads them).
- **Training**: `{command}`;
  autoencoder {vae_steps:,} steps, UNet and text encoder {unet_steps:,} steps. Seed {seed}. No face-recognition system was used
  as a loss.{note}
- **Licence**: non-commercial research, as the faces it was trained on.
- **Limits**: 64 x 64, faces in the middle of the picture, the generator's own biases (mostly light skin, smiling, 25 to
  40 years). Some un-personalized pictures are blotched, and the autoencoder loses some of who a person is
  (docs/protocol.md). Absolute figures on this base do not carry over to Stable Diffusion.
"""


def originals(folder: Path | None) -> list[Original]:
    """The training faces in the builder's working folder (`python -m iddmbench.synthetic.build OUT --faces 10000`).

    Raises UserError when there are none.
    """
    paths = sorted((folder / "faces").glob("*.npz")) if folder else []
    if not paths:
        raise UserError(
            "micro-rgb learns from generated faces: make them with "
            "`python -m iddmbench.synthetic.build OUT --work WORK --faces 10000`, then give --faces WORK"
        )
    assert folder is not None
    faces = joined([load(path) for path in paths])
    subjects = [load(p, photos=False).values["embedding"][0] for p in sorted((folder / "subjects").glob("*.npz"))]
    far = np.ones(len(faces), bool)
    if subjects:
        far = (faces.values["embedding"] @ np.stack(subjects).T).max(1) < SUBJECT_TOO_CLOSE
    said = [
        (next(word for end, word in AGES if age < end), "man" if male > 0.5 else "woman")
        for age, male in zip(faces.values["age"], faces.values["male"], strict=True)
    ]
    return [Original((int(faces.draws[k, 0]), 0), faces.photos[k], said=said[k]) for k in np.flatnonzero(far)]


RGB = Domain(
    name="micro-rgb",
    originals=originals,
    words=(
        *" ".join((*POSES, *SMILES, *LIGHTS, *BACKDROPS)).split(),
        *" ".join(word for _, word in AGES).replace("-", " ").split(),
        *COMMON,
    ),
    shown=portrait,
    wide=Spread(zoom=0.06, shift=0.03, angle=3.0, light=0.08),
    narrow=Spread(zoom=0.03, shift=0.012, angle=1.5, light=0.04),
    blended=0.0,
    views=8,
    average=0.9995,
    channels=32,
    perceptual=0.0,
    batches=(64, 128),
    recipe=RECIPE,
    card=CARD,
)
