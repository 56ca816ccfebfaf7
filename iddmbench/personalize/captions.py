"""Captions of reference photos, as the base model's recipe asks for them."""

import numpy as np

from iddmbench.faces.attributes import KINDS
from iddmbench.faces.detect import Detector
from iddmbench.models.recipe import Prompts


def caption_photos(images: np.ndarray, prompts: Prompts, detector: Detector) -> list[str]:
    """One caption for each of uint8 [N, S, S, 3].

    With `captions = "attributes"` or "portrait", what a photo shows (`faces.attributes.KINDS`) is said beside the instance
    prompt, so that training binds it to those words and not to the person: prompts can then ask for something else. A photo
    in which no face is found has the instance prompt alone.
    """
    if prompts.captions == "instance":
        return [prompts.instance] * len(images)
    faces = detector.detect(list(images))
    shown = [
        KINDS[prompts.captions](image, points) if found else ()
        for image, points, found in zip(images, faces.landmarks, faces.found, strict=True)
    ]
    return [", ".join((prompts.instance, *parts)) for parts in shown]
