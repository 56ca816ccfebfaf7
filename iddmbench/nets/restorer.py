"""A small U-Net that learns to undo what was done to images, from pairs."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iddmbench.seeds import Seeds

CODE = 1
"""Raised when the same pairs would give other weights."""
BATCH, RATE = 8, 3e-3


class Restorer(nn.Module):
    """U-Net (Ronneberger, Fischer, Brox 2015, arXiv 1505.04597) with three levels on pixels unshuffled by 2, so that it costs
    little; it gives a correction of the image, none before training.

    Args:
        width: channels of the first level. side: pixels a side that it works at, a multiple of 8.
    """

    def __init__(self, width: int, side: int, seeds: Seeds):
        super().__init__()
        self.side = side
        w, channels = width, 3 * 4
        with torch.random.fork_rng(devices=[]):  # layers draw weights of their own first
            self.down = nn.ModuleList([_block(channels, w), _block(w, 2 * w), _block(2 * w, 4 * w)])
            self.up = nn.ModuleList([_block(6 * w, 2 * w), _block(3 * w, w)])
            self.last = nn.Conv2d(w, channels, 3, padding=1)
        generator = seeds.torch()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.zeros_(self.last.weight)

    def correction(self, x: Tensor) -> Tensor:
        """float [N, 3, side, side], of images float [N, 3, side, side] in [0, 1]."""
        h = F.pixel_unshuffle(x - 0.5, 2)
        skips = []
        for level, block in enumerate(self.down):
            h = block(F.avg_pool2d(h, 2) if level else h)
            skips.append(h)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            h = block(torch.cat((F.interpolate(h, scale_factor=2.0), skip), 1))
        return F.pixel_shuffle(self.last(h), 2)

    def restore(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] of any size, restored: the correction is computed at `side` pixels, enlarged and added."""
        whole = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            change = self.correction(_resized(whole, (self.side, self.side)))
            x = whole + _resized(change, (image.shape[0], image.shape[1]))
        return (x.clamp(0, 1) * 255).round().to(torch.uint8)[0].permute(1, 2, 0).numpy()


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1), nn.SiLU()
    )


def shrunk(images: np.ndarray, side: int) -> Tensor:
    """float [N, 3, side, side] in [0, 1] of N images, uint8 [H, W, 3] each, of any sizes."""
    if not len(images):
        return torch.zeros(0, 3, side, side)
    whole = (torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1)[None].float() / 255 for image in images)
    return torch.cat([_resized(one, (side, side)) for one in whole])


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)


def train_restorer(before: Tensor, after: Tensor, steps: int, width: int, seeds: Seeds) -> Restorer:
    """A network that makes `before` like `after`, float [N, 3, S, S] in [0, 1] each: mean absolute error, Adam, cosine rate,
    pairs mirrored at random. Computed on the CPU; the same on any machine with the same number of threads.

    Pairs that are equal leave nothing to undo, and the network as it is.
    """
    net = Restorer(width, before.shape[-1], seeds.child("weights"))
    if torch.equal(before, after):
        return net.eval()
    rng = seeds.child("batches").numpy()
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    with torch.enable_grad():
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / 20) * (1 + math.cos(math.pi * step / steps)) / 2
            chosen = torch.from_numpy(rng.integers(len(before), size=BATCH))
            mirrored = torch.from_numpy(rng.random(BATCH) < 0.5)[:, None, None, None]
            x, y = (torch.where(mirrored, part[chosen].flip(-1), part[chosen]) for part in (before, after))
            loss = (x + net.correction(x) - y).abs().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
    return net.eval()
