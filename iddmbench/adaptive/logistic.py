"""Logistic regression for few features, by Newton's method: no random number, no package."""

import numpy as np

STEPS, ENOUGH = 50, 1e-10


def logistic(x: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
    """Weights float [D] of features float [M, D] that tell y (bool [M]) apart, without the constant, which ranks nobody.

    Minimizes the mean negative log-likelihood, each class with weight 1/2, plus ridge / (2 M_1) |w|^2 where M_1 is the number
    of positive rows; the constant is not penalized. Raises ValueError unless both classes occur.
    """
    if y.all() or not y.any():
        raise ValueError("both classes must occur")
    design = np.column_stack((x, np.ones(len(x))))
    share = np.where(y, 0.5 / y.sum(), 0.5 / (~y).sum())
    penalty = np.append(np.full(x.shape[1], ridge / y.sum()), 0.0)
    weights = np.zeros(design.shape[1])
    for _ in range(STEPS):
        p = _sigmoid(design @ weights)
        gradient = design.T @ (share * (p - y)) + penalty * weights
        curvature = (design * (share * p * (1 - p))[:, None]).T @ design + np.diag(penalty + 1e-12)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        before = _loss(design, y, share, penalty, weights)
        while size > 1e-4 and _loss(design, y, share, penalty, weights - size * step) > before:
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < ENOUGH:
            break
    return weights[:-1]


def _loss(design: np.ndarray, y: np.ndarray, share: np.ndarray, penalty: np.ndarray, weights: np.ndarray) -> float:
    margin = np.where(y, 1, -1) * (design @ weights)
    return float((share * np.logaddexp(0, -margin)).sum() + (penalty * weights**2).sum() / 2)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))
