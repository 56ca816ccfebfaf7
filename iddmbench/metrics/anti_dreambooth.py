"""FDFR and ISM as the evaluation script of Anti-DreamBooth computes them (arXiv 2303.15433; evaluations/ism_fdfr.py).

They belong to one person and one prompt, and are then averaged over prompts and people. Beside our `ism`, which is of one
attacker's own detector and of enrolment photos.
"""

from collections.abc import Sequence

import numpy as np


def clean_embedding(faces: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """The mean embedding of a person's clean photos.

    Args:
        faces: of each photo, float [D] or None where no face was found. As in the script, vectors are not normalized, and a
            photo without a face counts in the divisor, which changes no cosine.

    Returns float [D]; None where no photo shows a face.
    """
    found = [np.asarray(face, np.float64) for face in faces if face is not None]
    return np.sum(found, axis=0) / len(faces) if found else None


def match_scores(faces: Sequence[np.ndarray | None], clean: np.ndarray | None) -> np.ndarray:
    """Cosine of each image's largest face with `clean_embedding`, float [N]; NaN where no face was found, or none is clean."""
    scores = np.full(len(faces), np.nan)
    for i, face in enumerate(faces):
        if face is not None and clean is not None:
            x = np.asarray(face, np.float64)
            scores[i] = x @ clean / max(float(np.linalg.norm(x) * np.linalg.norm(clean)), 1e-8)
    return scores


def by_prompt(values: np.ndarray, prompts: Sequence[str]) -> dict[str, float]:
    """Mean of the values that are not NaN, by prompt in order of appearance; NaN for a prompt that has none.

    Of `match_scores` that is ISM, of "no face found" (0 or 1) FDFR.

    Args:
        values: float [N]. prompts: N.
    """
    found: dict[str, list[float]] = {}
    for prompt, value in zip(prompts, values, strict=True):
        own = found.setdefault(prompt, [])
        if not np.isnan(value):
            own.append(float(value))
    return {prompt: float(np.mean(own)) if own else float("nan") for prompt, own in found.items()}
