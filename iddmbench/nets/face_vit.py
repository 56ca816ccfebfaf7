"""The vision transformer of insightface and LVFace (You et al., arXiv 2501.13420), whose patches make the vector together."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 9
"""Pixels; a crop of 112 x 112 has 12 x 12 whole patches, and its last four rows and columns are left out."""
PATCHES = (112 // PATCH) ** 2


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, length, dim = x.shape
        q, k, v = self.qkv(x).view(n, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, dim))


class _Perceptron(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu6(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.mlp = _Attention(dim, heads), _Perceptron(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Patches(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, PATCH)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class FaceViT(nn.Module):
    """Features [N, 512] of crops [N, 3, 112, 112] in [-1, 1].

    Args:
        dim: of a patch's vector. depth: number of blocks. heads: of each attention.
    """

    def __init__(self, dim: int, depth: int, heads: int = 8):
        super().__init__()
        self.patch_embed = _Patches(dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, PATCHES, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))  # of training alone; it is in the files
        self.blocks = nn.Sequential(*(_Block(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.feature = nn.Sequential(
            nn.Linear(dim * PATCHES, dim, bias=False),
            nn.BatchNorm1d(dim, eps=2e-5),
            nn.Linear(dim, 512, bias=False),
            nn.BatchNorm1d(512, eps=2e-5),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.feature(self.norm(self.blocks(self.patch_embed(x) + self.pos_embed)).flatten(1))
