"""Random transforms of an expectation over transformations (Athalye et al., arXiv 1707.07397), differentiable."""

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional


def random_flip(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """x [N, C, H, W], each mirrored with the given probability."""
    flip = torch.rand(len(x), generator=generator).to(x.device) < probability
    return torch.where(flip[:, None, None, None], x.flip(3), x)


def random_blur(x: Tensor, kernel: int, sigma: tuple[float, float], generator: torch.Generator) -> Tensor:
    """One Gaussian blur for all of x [N, C, H, W]: odd `kernel` in pixels, its deviation drawn from the range `sigma`."""
    low, high = sigma
    deviation = low + (high - low) * torch.rand(1, generator=generator).item()
    return functional.gaussian_blur(x, [kernel, kernel], [deviation, deviation])


def random_resize(x: Tensor, smallest: float, generator: torch.Generator) -> Tensor:
    """x [N, C, H, W] reduced to a share of its size drawn from [smallest, 1], and enlarged again (bilinear)."""
    share = smallest + (1 - smallest) * torch.rand(1, generator=generator).item()
    size = list(x.shape[2:])
    small = functional.resize(x, [max(1, round(s * share)) for s in size], antialias=True)
    return functional.resize(small, size, antialias=True)
