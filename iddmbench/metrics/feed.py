"""Several posts of one model seen together: a feed of avatars leaks more than each of them.

Both functions cut one model's P posts into P // N disjoint feeds of N; post i goes to feed i mod (P // N), so that posts
sorted by prompt are spread over the feeds. Disjoint feeds of one model are still correlated: bootstrap over models.
"""

import numpy as np


def pooled_templates(vectors: np.ndarray, acquired: np.ndarray, posts: int) -> tuple[np.ndarray, np.ndarray]:
    """The linker who averages: one template per feed, the normalized mean of its unit vectors.

    Args:
        vectors: float [P, D], embeddings of one model's outputs. acquired: bool [P]; posts without a face are left out of
            the mean. posts: N >= 1; 1 gives the posts themselves.

    Returns: templates float [P // N, D] and acquired bool [P // N] (any post of the feed had a face); templates that are
        not acquired are zero. They go on like embeddings of single posts: ranks, thresholds, policies.

    Raises ValueError for shapes that do not fit and for fewer than N posts.
    """
    vectors, acquired = np.asarray(vectors, dtype=np.float64), np.asarray(acquired, dtype=bool)
    if vectors.ndim != 2 or acquired.shape != vectors.shape[:1]:
        raise ValueError(f"vectors {vectors.shape} and acquired {acquired.shape} don't match")
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    sums = _feeds(np.where(acquired[:, None], unit, 0.0), posts).sum(1)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return sums / np.maximum(norms, 1e-12), np.any(_feeds(acquired, posts), axis=1)


def pooled_scores(scores: np.ndarray, acquired: np.ndarray, posts: int) -> tuple[np.ndarray, np.ndarray]:
    """The linker who adds up: the mean score of a feed's posts against each identity.

    For cosines this ranks identities as `pooled_templates` does, as a template's cosine is the mean one up to a factor
    that all identities share; it also serves scores that are not cosines.

    Args:
        scores: float [P, I], one model's posts against I identities. acquired: bool [P]; others are left out of the mean.
        posts: N >= 1.

    Returns: float [P // N, I] and acquired bool [P // N]; 0 where not acquired.

    Raises ValueError for shapes that do not fit and for fewer than N posts.
    """
    scores, acquired = np.asarray(scores, dtype=np.float64), np.asarray(acquired, dtype=bool)
    if scores.ndim != 2 or acquired.shape != scores.shape[:1]:
        raise ValueError(f"scores {scores.shape} and acquired {acquired.shape} don't match")
    sums = _feeds(np.where(acquired[:, None], scores, 0.0), posts).sum(1)
    counts = _feeds(acquired, posts).sum(1)
    return sums / np.maximum(counts, 1)[:, None], counts > 0


def _feeds(rows: np.ndarray, posts: int) -> np.ndarray:
    """[P, ...] -> [P // N, N, ...]; a remainder is dropped."""
    if not 1 <= posts <= len(rows):
        raise ValueError(f"feeds of {posts} posts can't be made of {len(rows)}")
    count = len(rows) // posts
    return rows[: count * posts].reshape(posts, count, *rows.shape[1:]).swapaxes(0, 1)
