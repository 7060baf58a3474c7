"""``vit``: a vision transformer with LIQE's way of scoring (Zhang, Zhai, Wei, Yang, Ma, CVPR 2023).

Kept from LIQE: the image's embedding is compared by cosine with the embeddings of five quality levels ("bad" to
"perfect"), a softmax turns the similarities into probabilities, and the score is the expected level. Changed: the
image's embedding comes from three depths of the first six blocks of DINOv2's ViT-S/14 instead of the end of CLIP's
ViT-B/32, and the levels' ones are learned instead of coming from CLIP's text tower.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqarena_models.zoo.backbones.dino import DIM, Dino
from iqarena_models.zoo.net import ScorerNet, at_least_float

DEPTH, EMBEDDING = 6, 64  # blocks, numbers
TAPS = (1, 3, 5)  # blocks, counted from 0


class VitNet(ScorerNet):
    backbone: Dino
    levels: Tensor

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__(Dino(DEPTH, pretrained=pretrained))
        self.norm = nn.LayerNorm(len(TAPS) * 3 * DIM)
        self.embed = nn.Sequential(nn.Dropout(0.1), nn.Linear(len(TAPS) * 3 * DIM, EMBEDDING))
        self.quality = nn.Parameter(torch.randn(5, EMBEDDING))
        self.temperature = nn.Parameter(torch.tensor(2.3))
        self.register_buffer("levels", torch.linspace(-3, 3, 5))

    def ratings(self, x: Tensor) -> Tensor:
        tokens = self.backbone(x)
        pooled = torch.cat([part for tap in TAPS for part in _pool(tokens[tap])], 1)
        embedding = at_least_float(self.embed(self.norm(pooled)))
        similarity = F.normalize(embedding, dim=1) @ F.normalize(self.quality, dim=1).T
        return ((self.temperature.exp() * similarity).softmax(1) @ self.levels)[:, None]


def _pool(tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The class token, mean and standard deviation of the others: ``(N, T, C)`` → three times ``(N, C)``."""
    patches = tokens[:, 1:]
    return tokens[:, 0], patches.mean(1), patches.std(1)
