"""The gray base `micro`: the 28 public people of ORL."""

from pathlib import Path
from typing import Any

from iddmbench.faces.attributes import FRAMINGS, LIGHTS, POSES, attributes
from iddmbench.faces.detect import YuNet
from iddmbench.micro.data import Spread
from iddmbench.micro.domain import Domain, Original
from iddmbench.micro.text import COMMON, name_word
from iddmbench.photos.references import face_square

FRAME = 1.2

# No prior preservation by default: at this size "sks person" and "person" are hardly told apart, and even a weight of 0.03
# kept the model from taking on the subject (benchmark users can turn it on with --lora prior_weight=1).
RECIPE: dict[str, Any] = {
    "grayscale": True,
    "trained_on": {"orl": [f"s{person}" for person in range(1, 29)]},
    "judges": ["efficientnet_lite0"],
    # ORL's photos are 0.8 to 1.2 face boxes wide, and all of them whole: the base knows no smaller faces.
    "frame": FRAME,
    "prompts": {
        "instance": "a photo of sks person",
        "class": "a photo of person",
        "captions": "attributes",
        "evaluation": [
            "a photo of sks person",
            "a photo of sks person, facing left",
            "a photo of sks person, facing right",
            "a photo of sks person, bright",
        ],
    },
    "lora": {
        "rank": 32,
        "alpha": 32,
        "targets": [
            *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
            *("conv1", "conv2", "conv_shortcut"),
        ],
        "steps": 160,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "prior_weight": 0.0,
        "prior_batch": 2,
        "class_images": 16,
    },
    "sampling": {"steps": 12, "guidance": 3.5},
}

CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---

# iddmbench micro

A latent diffusion model of gray 64 x 64 face photos, small enough to personalize on two CPU cores in seconds. It exists to
run the benchmark offline, end to end, through the code that runs Stable Diffusion. It is not meant for any other use.

- **Parts**: `AutoencoderKL` (8 x 8 x 16 latents, 2.8 M parameters), `UNet2DConditionModel` (128/192 channels, velocity
  prediction, 8.7 M), a two-layer `CLIPTextModel` with a word tokenizer. fp16 safetensors.
- **Data**: people 1-28 of the ORL database (AT&T Laboratories Cambridge; Samaria and Harter 1994), ten photos each, with
  random views. People 29-40, the benchmark's subjects, were never seen.
- **Text**: captions name the head pose (facing left, forward, right), framing (wide, medium, close-up), light (dark, soft
  light, bright) and one made-up word per person, all computed from the images.
- **Training**: `{command}` on two CPU cores; autoencoder {vae_steps:,} steps, UNet and text encoder {unet_steps:,}
  steps. Seed {seed}. EfficientNet-Lite0 features were used as a perceptual loss; no face-recognition system was.{note}
- **Licence**: the weights are under Apache-2.0. The photos are AT&T's, free for research with credit; the model can
  reproduce the likeness of the 28 people, so use it for research only.
- **Limits**: gray, 64 x 64, one dataset of mostly white men of the early 1990s, no claim about other faces. Absolute figures on
  this base do not carry over to Stable Diffusion; it is for developing and comparing methods.
"""


def originals(folder: Path | None = None) -> list[Original]:
    """Face squares of people 1-28, all ten photos of each; the subjects under test are never seen."""
    from iddmbench.datasets.orl import PUBLIC, photo

    detector = YuNet()
    found = []
    for person in PUBLIC:
        images = [photo(person, k).image for k in range(1, 11)]
        boxes = detector.detect(images).boxes
        for k, (image, box) in enumerate(zip(images, boxes, strict=True)):
            found.append(Original((person, k), face_square(image, box, FRAME), name_word(person)))
    return found


GRAY = Domain(
    name="micro",
    originals=originals,
    words=(
        *(name_word(p) for p in range(1, 29)),
        *" ".join((*POSES, *FRAMINGS, *LIGHTS)).replace("-", " ").split(),
        *COMMON,
    ),
    shown=attributes,
    wide=Spread(zoom=0.1, shift=0.03, angle=3.0, light=0.12),  # the autoencoder should encode any face
    # 280 photos teach the face distribution sooner when the framing varies little
    narrow=Spread(zoom=0.04, shift=0.012, angle=1.2, light=0.06),
    blended=0.3,  # so that the autoencoder does not only know the public people's faces
    views=24,
    average=0.9995,
    channels=16,
    perceptual=0.05,
    batches=(8, 16),
    recipe=RECIPE,
    card=CARD,
)
