"""What counts as an image, checked in one place."""

from collections.abc import Sequence

import numpy as np

from iddmbench.types import Image


def rgb_images(images: Sequence[np.ndarray] | np.ndarray) -> list[Image]:
    """Images as a list of uint8 [H, W, 3] arrays, RGB; gray ones [H, W] get three equal channels. Nothing is copied:
    they are views, those of gray images read-only.

    Args:
        images: a sequence of uint8 [H, W, 3] or [H, W] arrays of any sizes, or one array [N, H, W, 3].

    Raises TypeError if an image is not a uint8 array, ValueError when its shape fits neither form or it has no pixel.
    A lone image must be passed as [image].
    """
    if isinstance(images, np.ndarray) and images.dtype != object and images.ndim != 4:
        raise ValueError(f"expected a list of images or an array [N, H, W, 3], got shape {images.shape}")
    checked = []
    for index, image in enumerate(images):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
            raise TypeError(f"image {index} must be a uint8 array (values 0 to 255), got {kind}")
        if image.ndim == 2:
            image = np.broadcast_to(image[..., None], (*image.shape, 3))
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"image {index} must have shape [H, W, 3] (RGB) or [H, W] (gray), got {image.shape}")
        checked.append(image)
    return checked
