"""What can be computed from a face image and said in a caption: head pose, framing and light."""

from collections.abc import Sequence

import numpy as np

POSES = ("facing left", "facing forward", "facing right")
FRAMINGS = ("wide", "medium", "close-up")
LIGHTS = ("dark", "soft light", "bright")


def attributes(image: np.ndarray, landmarks: np.ndarray) -> tuple[str, str, str]:
    """Pose, framing and light of one face image.

    Args:
        image: uint8 [H, W, 3].
        landmarks: float [5, 2], (x, y) of both eyes, nose tip, mouth corners, in pixels; the two eyes in either order.

    Returns:
        One of POSES, of FRAMINGS and of LIGHTS. Pose is the nose tip's offset from the middle of the eyes in units of the
        eye distance (thresholds +-0.06, as the viewer sees it), framing the eye distance in units of the image width
        (0.34, 0.42), light the mean gray level (108, 136): about the terciles of the augmented training views.
    """
    eyes, nose = landmarks[:2], landmarks[2]
    distance = float(np.linalg.norm(eyes[0] - eyes[1])) + 1e-6
    yaw = float(nose[0] - eyes[:, 0].mean()) / distance
    pose = POSES[int(yaw > -0.06) + int(yaw > 0.06)]
    span = distance / image.shape[1]
    framing = FRAMINGS[int(span > 0.34) + int(span > 0.42)]
    level = float(image.mean())
    light = LIGHTS[int(level > 108) + int(level > 136)]
    return pose, framing, light


def caption(who: str, parts: Sequence[str]) -> str:
    """("sks person", ("facing left", "dark")) -> "a photo of sks person, facing left, dark"."""
    return ", ".join((f"a photo of {who}", *parts))
