"""Prompt adherence where the prompt names what can be measured: head pose, framing and light."""

import numpy as np

from iddmbench.faces.attributes import FRAMINGS, LIGHTS, POSES, attributes
from iddmbench.faces.detect import Faces


def adherence(prompts: list[str], images: np.ndarray, faces: Faces) -> np.ndarray:
    """Share of the attributes named in each prompt that the image has, by `iddmbench.faces.attributes.attributes`.

    Args:
        prompts: N prompts; images: uint8 [N, H, W, 3]; faces: their faces.

    Returns: float [N] in [0, 1]; 0 where no face was found; NaN where the prompt names no such attribute. Higher is better;
    a model that ignores the prompt gets about 1/3.
    """
    scores = np.full(len(prompts), np.nan)
    for i, prompt in enumerate(prompts):
        named = [word for word in (*POSES, *FRAMINGS, *LIGHTS) if word in prompt]
        if not named:
            continue
        shown = attributes(images[i], faces.landmarks[i]) if faces.found[i] else ()
        scores[i] = np.mean([word in shown for word in named])
    return scores
