"""Closed-set identification: who of the gallery is this? Every probe's true identity is enrolled.

Vectors are compared by cosine and normalized here. A probe without a face (a zero vector) scores 0 against everybody,
which says nothing: pass its hit through `iddmbench.metrics.policies`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Rule = Literal["max", "mean"]


@dataclass(frozen=True)
class IdentityScores:
    """Attributes:
    identities: [I] distinct gallery labels, sorted.
    scores: float [P, I] of each probe against each identity; cosines in [-1, 1], where the system has no other score.
    """

    identities: np.ndarray
    scores: np.ndarray


def identity_scores(probes: np.ndarray, gallery: np.ndarray, labels: np.ndarray, rule: Rule = "max") -> IdentityScores:
    """Scores of probes against enrolled people.

    Args:
        probes: float [P, D]. gallery: float [G, D], one row per enrolled photo. labels: [G], whose photo it is.
        rule: "max", the best of the identity's photos, or "mean", the normalized mean of its unit vectors. "max"
            favours identities with more photos: enrol the same number of each.

    Raises ValueError for shapes that do not fit, an empty gallery or an unknown rule.
    """
    probes, gallery, labels = np.asarray(probes), np.asarray(gallery), np.asarray(labels)
    flat = probes.ndim == gallery.ndim == 2
    if not flat or len(gallery) != len(labels) or probes.shape[1] != gallery.shape[1] or not labels.size:
        raise ValueError(f"probes {probes.shape}, gallery {gallery.shape}, labels {labels.shape} don't match")
    if rule == "mean":
        return template_scores(probes, *mean_templates(gallery, labels))
    if rule != "max":
        raise ValueError(f"rule must be 'max' or 'mean', got {rule!r}")
    identities, inverse = np.unique(labels, return_inverse=True)
    probes, gallery = _unit(probes), _unit(gallery)
    order = np.argsort(inverse, kind="stable")  # each identity's photos side by side
    starts = np.searchsorted(inverse[order], np.arange(len(identities)))
    return IdentityScores(identities, np.maximum.reduceat((probes @ gallery.T)[:, order], starts, axis=1))


def mean_templates(gallery: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Identities [I], sorted, and templates float64 [I, D]: the normalized mean of each one's unit vectors."""
    identities, inverse = np.unique(labels, return_inverse=True)
    templates = np.zeros((len(identities), gallery.shape[1]))
    np.add.at(templates, inverse, _unit(gallery))
    return identities, _unit(templates)


def template_scores(probes: np.ndarray, identities: np.ndarray, templates: np.ndarray) -> IdentityScores:
    """`identity_scores` of probes against what `mean_templates` gives."""
    return IdentityScores(identities, _unit(probes) @ templates.T)


Compare = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Scores [P] of probes [P, D] against one person's photos [n, D]."""


def own_scores(probes: np.ndarray, gallery: np.ndarray, labels: np.ndarray, compare: Compare) -> IdentityScores:
    """`identity_scores` by a system's own comparison, which need not be a cosine; vectors go in as they are."""
    labels = np.asarray(labels)
    identities = np.unique(labels)
    scores = np.stack([compare(probes, gallery[labels == identity]) for identity in identities], 1)
    return IdentityScores(identities, scores)


def ranks(
    probes: np.ndarray, gallery: np.ndarray, labels: np.ndarray, true: np.ndarray, rule: Rule = "max"
) -> np.ndarray:
    """Rank of each probe's true identity: 1 + the number of identities with a strictly higher score.

    Ties thus go to the attacker, the reading most pessimistic for a defense.

    Args:
        true: [P] label that each probe is looked up as. The subject for R1-U; the decoy for R1-T.

    Returns: int [P], 1 the best.

    Raises ValueError as `identity_scores` does and when a true label is not enrolled.
    """
    return ranks_of(identity_scores(probes, gallery, labels, rule), true)


def ranks_of(table: IdentityScores, true: np.ndarray) -> np.ndarray:
    """`ranks` of scores already computed."""
    own = true_scores(table, true)
    return 1 + (table.scores > own[:, None]).sum(1)


def true_scores(table: IdentityScores, true: np.ndarray) -> np.ndarray:
    """float [P]: each probe's score against its own identity. Raises ValueError when that is not enrolled."""
    true = np.asarray(true)
    if true.shape != table.scores.shape[:1]:
        raise ValueError(f"{table.scores.shape[0]} probes but true labels of shape {true.shape}")
    column = np.searchsorted(table.identities, true).clip(max=len(table.identities) - 1)
    if (missing := table.identities[column] != true).any():
        raise ValueError(f"not in the gallery: {sorted(set(true[missing].tolist()))}")
    return table.scores[np.arange(len(true)), column]


def rank_k_hit(ranks: np.ndarray, k: int = 1) -> np.ndarray:
    """bool [P]: the identity is among the best k. Its mean is the rank-k hit rate.

    Looked up as the subject it is leakage; looked up as the decoy of a targeted defense it is R1-T (higher: the defense
    does what it was set to).
    """
    return np.asarray(ranks) <= k


def chance_level(identities: int, k: int = 1) -> float:
    """Rank-k hit rate of a guess among that many enrolled identities: k / I, at most 1."""
    return min(k / identities, 1.0)


def _unit(vectors: np.ndarray) -> np.ndarray:
    x = np.asarray(vectors, dtype=np.float64)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError(f"vectors must be finite [N, D], got shape {x.shape}")
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
