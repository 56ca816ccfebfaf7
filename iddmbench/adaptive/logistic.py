"""Logistic regression for few features, by Newton's method: no random number, no package."""

import numpy as np

STEPS, ENOUGH = 50, 1e-10
THINNED = 16
"""One in so many negative rows finds where the steps over all rows start."""


def logistic(x: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
    """Weights float [D] of features float [M, D] that tell y (bool [M]) apart, without the constant, which ranks nobody.

    Minimizes the mean negative log-likelihood, each class with weight 1/2, plus ridge / (2 M_1) |w|^2 where M_1 is the number
    of positive rows; the constant is not penalized. Raises ValueError unless both classes occur.
    """
    if y.all() or not y.any():
        raise ValueError("both classes must occur")
    weights = np.zeros(x.shape[1] + 1)
    some = y.copy()
    some[np.flatnonzero(~y)[::THINNED]] = True
    for rows in (some, slice(None)):
        weights = _newton(x[rows], y[rows], ridge, weights)
    return weights[:-1]


def _newton(x: np.ndarray, y: np.ndarray, ridge: float, weights: np.ndarray) -> np.ndarray:
    design = np.column_stack((x, np.ones(len(x))))
    sign = np.where(y, 1.0, -1.0)
    share = np.where(y, 0.5 / y.sum(), 0.5 / (~y).sum())
    penalty = np.append(np.full(x.shape[1], ridge / y.sum()), 0.0)

    def at(weights: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss, and each row's probability of the other class than its own."""
        margin = sign * (design @ weights)
        small = np.exp(-np.abs(margin))
        loss = share @ (np.log1p(small) - np.minimum(margin, 0)) + penalty @ weights**2 / 2
        return float(loss), np.where(margin > 0, small, 1.0) / (1 + small)

    loss, wrong = at(weights)
    for _ in range(STEPS):
        gradient = penalty * weights - design.T @ (share * sign * wrong)
        curvature = design.T @ (design * (share * wrong * (1 - wrong))[:, None]) + np.diag(penalty + 1e-12)
        step = np.linalg.solve(curvature, gradient)
        size, before = 1.0, loss
        loss, wrong = at(weights - step)
        while loss > before and size > 1e-4:
            size /= 2
            loss, wrong = at(weights - size * step)
        weights = weights - size * step
        if np.abs(size * step).max() < ENOUGH:
            break
    return weights
