"""``hyper``: a hyper-network scorer in the spirit of HyperIQA (Su, Yan, Zhu, Zhang, Ge, Sun, Zhang, CVPR 2020).

Kept from the paper: features of several depths are pooled into one content vector, and the weights of the small network
that rates it are themselves generated from the picture's deepest features. Changed: EfficientNet-Lite1 from ImageNet
instead of ResNet-50, a target network of two layers instead of four, whole pictures instead of 25 crops.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from iqarena_models.pocket.net import PocketNet, mean_std
from iqarena_models.pocket.trunk import CHANNELS, build_trunk

CONTENT, HIDDEN = 64, 16


class HyperNet(PocketNet):
    def __init__(self, *, imagenet: bool = False) -> None:
        super().__init__()
        self.stem, self.tail = build_trunk("lite1", imagenet=imagenet)
        self.content = nn.Sequential(nn.Linear(2 * sum(CHANNELS), CONTENT), nn.LayerNorm(CONTENT), nn.ReLU())
        self.semantic = nn.Sequential(nn.Linear(CHANNELS[2], 96), nn.ReLU(), nn.Dropout(0.2))
        self.weights = nn.Linear(96, HIDDEN * CONTENT + HIDDEN + HIDDEN + 1)
        nn.init.normal_(self.weights.weight, std=0.01)
        nn.init.normal_(self.weights.bias, std=0.1)

    def rate(self, half: Tensor, z: Tensor) -> Tensor:
        pooled = [mean_std(z)]
        for stage in self.tail:
            z = stage(z)
            pooled.append(mean_std(z))
        v = self.content(torch.cat(pooled, 1))
        w1, b1, w2, b2 = self.weights(self.semantic(z.mean((2, 3)))).split([HIDDEN * CONTENT, HIDDEN, HIDDEN, 1], 1)
        hidden = torch.relu((w1.view(-1, HIDDEN, CONTENT) @ v[..., None])[..., 0] + b1)
        return (hidden * w2).sum(1) + b2[:, 0]
