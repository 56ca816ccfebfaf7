"""Utility of a defended model as one figure in [0, 1], and the components that make it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Component:
    """One utility measure, to be read between two anchors.

    Attributes:
        name: what is measured, with the extractor or attacker it was measured with ("KID (EfficientNet-Lite2)").
        value: the defended model's.
        floor: the value that is worth nothing (for example the un-personalized model's closeness, or a detection rate of 0).
        reference: the undefended personalized model's.
        higher_is_better: direction of `value`.
    """

    name: str
    value: float
    floor: float
    reference: float
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.value, self.floor, self.reference))):
            raise ValueError(
                f"{self.name}: value {self.value}, floor {self.floor}, reference {self.reference} not finite"
            )
        if bool(self.reference > self.floor) != self.higher_is_better or self.reference == self.floor:
            better = "above" if self.higher_is_better else "below"
            raise ValueError(f"{self.name}: the reference {self.reference} must lie {better} the floor {self.floor}")

    @property
    def normalized(self) -> float:
        """(value - floor) / (reference - floor), clipped to [0, 1]: 0 at or beyond the floor, 1 at the undefended model or
        better. A defense gains nothing by a component that beats the undefended model."""
        return min(max((self.value - self.floor) / (self.reference - self.floor), 0.0), 1.0)


@dataclass(frozen=True)
class UtilityIndex:
    """Attributes:
    index: harmonic mean of the normalized components, in [0, 1]; higher is better. One component at its floor makes it 0.
    components: what it is made of; reported with it.
    """

    index: float
    components: tuple[Component, ...]


def utility(components: Sequence[Component]) -> UtilityIndex:
    """The utility index (our definition). Raises ValueError for no components or two of one name."""
    names = [component.name for component in components]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"utility needs components of distinct names, got {names}")
    return UtilityIndex(float(harmonic_mean(np.array([c.normalized for c in components]))), tuple(components))


def harmonic_mean(normalized: np.ndarray) -> np.ndarray:
    """Harmonic mean over the last axis of values in [0, 1], for indices of resampled components [B, K] -> [B].

    0 where a value is. Near a floor it grows in proportion to what is above it, at most K times; a geometric mean grows without
    bound there, which gives any small component an interval from 0 to nearly 1.
    """
    values = np.asarray(normalized, dtype=np.float64)
    if values.shape[-1] == 0 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError("normalized components must lie in [0, 1], and there must be one")
    with np.errstate(divide="ignore"):
        return values.shape[-1] / (1 / values).sum(-1)


def counted_images(values: np.ndarray, usable: np.ndarray, floor: float) -> np.ndarray:
    """float [N]: each image's value where it is usable, and the component's floor, worth nothing, where it is not.

    A value that is not defined (NaN: the prompt asks for nothing) stays so.
    """
    return np.where(np.isnan(values) | usable, values, floor)


def closeness(outputs: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Mean cosine of each output's features with the references' (CLIP-I of DreamBooth, arXiv 2208.12242, section 4.1, on
    whatever features are given; name the extractor).

    Args:
        outputs: float [P, D]. references: float [R, D], the subject's reference photos.

    Returns: float [P] in [-1, 1]; higher is closer. It also rises with leaked identity: features of one person's photos
        are alike in what identifies them too.

    Raises ValueError for wrong shapes or zero vectors.
    """
    p, r = _unit(outputs), _unit(references)
    if p.shape[1] != r.shape[1]:
        raise ValueError(f"outputs {p.shape} and references {r.shape} differ in dimension")
    return p @ r.mean(0)


def _unit(vectors: np.ndarray) -> np.ndarray:
    x = np.asarray(vectors, dtype=np.float64)
    if x.ndim != 2 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError(f"features must be finite [N, D] with N >= 1, got shape {x.shape}")
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    if (norms == 0).any():
        raise ValueError("features hold a zero vector")
    return x / norms
