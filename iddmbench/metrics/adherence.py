"""Prompt adherence where the prompt names what can be measured: head pose, framing, light, smile and backdrop."""

import numpy as np

from iddmbench.faces.attributes import BACKDROPS, FRAMINGS, KINDS, LIGHTS, POSES, SMILES
from iddmbench.faces.detect import Faces


def adherence(prompts: list[str], images: np.ndarray, faces: Faces) -> np.ndarray:
    """Share of the attributes named in each prompt that the image has, by `iddmbench.faces.attributes`.

    Args:
        prompts: N prompts; images: uint8 [N, H, W, 3]; faces: their faces.

    Returns: float [N] in [0, 1]; 0 where no face was found; NaN where the prompt names no such attribute. Higher is better;
    a model that ignores the prompt gets about 1/3 (1/2 of smiles and backdrops).
    """
    scores = np.full(len(prompts), np.nan)
    for i, prompt in enumerate(prompts):
        named = [word for word in (*POSES, *FRAMINGS, *LIGHTS, *SMILES, *BACKDROPS) if word in prompt]
        if not named:
            continue
        shown: set[str] = set()
        if faces.found[i]:
            shown = {word for kind in KINDS.values() for word in kind(images[i], faces.landmarks[i])}
        scores[i] = np.mean([word in shown for word in named])
    return scores
