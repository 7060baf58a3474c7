"""``vit``: a small vision transformer with LIQE's way of scoring (Zhang, Zhai, Wei, Yang, Ma, CVPR 2023).

Kept from LIQE: the picture's embedding is compared by cosine with the embeddings of five quality levels ("bad" to
"perfect"), a softmax turns the similarities into probabilities, and the score is the expected level. Changed: the
level embeddings are learned instead of coming from CLIP's text tower, and the transformer (four convolutions to
16×16-pixel tokens, five blocks, a depthwise convolution as position code) is trained from scratch. As in ``cnn``, the
first convolution sees local contrast alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqarena_models.pocket.net import PocketNet, beside_colour, conv, local_contrast

DIM, HEADS, DEPTH = 128, 4, 5


class VitNet(PocketNet):
    levels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(1, 32, 2)
        self.tokens = nn.Sequential(
            conv(32 + 3, 48, 2),
            conv(48, 96, 2),
            nn.Sequential(nn.Conv2d(96, DIM, 3, 2, 1, bias=False), nn.BatchNorm2d(DIM)),
        )
        self.position = nn.Conv2d(DIM, DIM, 3, padding=1, groups=DIM)
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(DIM)
        self.quality = nn.Parameter(torch.randn(5, DIM))
        self.temperature = nn.Parameter(torch.tensor(2.3))
        self.register_buffer("levels", torch.linspace(-3, 3, 5))

    def rate(self, half: Tensor, z: Tensor) -> Tensor:
        t = self.tokens(beside_colour(self.first(local_contrast(half)), half))
        t = (t + self.position(t)).flatten(2).transpose(1, 2)
        embedding = self.norm(self.blocks(t)).mean(1)
        similarity = F.normalize(embedding, dim=1) @ F.normalize(self.quality, dim=1).T
        return (self.temperature.exp() * similarity).softmax(1) @ self.levels


class Block(nn.Module):
    """Pre-norm transformer block: attention over all tokens, then a two-layer perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.qkv, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.mlp = nn.Sequential(nn.Linear(DIM, 2 * DIM), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * DIM, DIM))

    def forward(self, t: Tensor) -> Tensor:
        n, length, _ = t.shape
        q, k, v = self.qkv(self.norm1(t)).view(n, length, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
        attended = (q @ k.mT * (DIM // HEADS) ** -0.5).softmax(-1) @ v  # on a CPU quicker than torch's fused one
        t = t + self.out(attended.transpose(1, 2).reshape(n, length, DIM))
        return t + self.mlp(self.norm2(t))
