"""Projected gradient ascent on photos, in the units of the papers: images in [-1, 1], eps twice the fraction of 255."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def step(x: Tensor, clean: Tensor, gradient: Tensor, alpha: float, eps: float) -> Tensor:
    """One step of PGD in the l_inf ball (Madry et al., arXiv 1706.06083, Eq. 4), clipped to [-1, 1].

    Args:
        x: current photos [N, C, S, S]; clean: what they started from; gradient: of what is to grow, in x.
        alpha: step size; eps: radius of the ball around `clean`.
    """
    moved = x + alpha * gradient.sign()
    return (clean + (moved - clean).clamp(-eps, eps)).clamp(-1, 1)


def ascend(
    clean: Tensor,
    start: Tensor,
    objective: Callable[[Tensor], Tensor],
    steps: int,
    alpha: float | Callable[[int], float],
    eps: float,
) -> Tensor:
    """`steps` steps of PGD from `start` that raise `objective`, a scalar of the photos.

    `alpha` may depend on the step. Returns the photos, without a graph.
    Raises FloatingPointError when the objective or its gradient is not finite: the photos would turn into NaN in silence.
    """
    x = start.detach()
    for i in range(steps):
        x.requires_grad_(True)
        value = objective(x)
        (gradient,) = torch.autograd.grad(value, x)
        if not (torch.isfinite(value).all() and torch.isfinite(gradient).all()):
            raise FloatingPointError(f"perturbation diverged at PGD step {i}: loss is {value.item()}")
        x = step(x.detach(), clean, gradient, alpha(i) if callable(alpha) else alpha, eps)
    return x.detach()


def random_start(clean: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """Uniform in the ball, clipped to [-1, 1]."""
    noise = (torch.rand(clean.shape, generator=generator) * 2 - 1) * eps
    return (clean + noise.to(clean)).clamp(-1, 1)


def to_signed(images: np.ndarray, gray: bool, device: torch.device) -> Tensor:
    """uint8 [N, S, S, 3] -> float [N, C, S, S] in [-1, 1]; C is 1 for gray photos, so that what is added is gray too."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).to(device).float() / 127.5 - 1
    return x[:, :1] if gray else x


def to_bytes(x: Tensor, clean: np.ndarray, eps: float) -> np.ndarray:
    """Photos in [-1, 1] as uint8 [N, S, S, 3] whose gray levels keep to the budget: what counts is the saved file.

    Args:
        x: [N, 1 or 3, S, S]; clean: uint8 [N, S, S, 3]; eps: budget in [-1, 1].
    """
    levels = int(eps * 127.5 + 1e-6)
    rounded = ((x + 1) * 127.5).round().permute(0, 2, 3, 1).cpu().numpy().astype(np.int64)
    change = np.clip(rounded - clean.astype(np.int64), -levels, levels)
    return np.clip(clean + change, 0, 255).astype(np.uint8)
