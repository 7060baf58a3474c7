"""``hyper``: a hyper-network scorer in the spirit of HyperIQA (Su, Yan, Zhu, Zhang, Ge, Sun, Zhang, CVPR 2020).

Kept from the paper: features of the four stages of a ResNet-50 are pooled into one content vector, and the weights of
the small network that rates it are themselves generated from the image's deepest features. Changed: a ResNet of half
the width, pooling by mean and standard deviation, a target network of two layers instead of four.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from iqarena_models.zoo.backbones.resnet import CHANNELS, Resnet
from iqarena_models.zoo.net import ScorerNet, mean_std

CONTENT, HIDDEN = 64, 16


class HyperNet(ScorerNet):
    backbone: Resnet

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__(Resnet(pretrained=pretrained))
        self.content = nn.ModuleList(_reduce(2 * channels, CONTENT) for channels in CHANNELS)
        self.norm = nn.LayerNorm(CONTENT)
        self.semantic = nn.Sequential(_reduce(CHANNELS[3], 96), nn.ReLU(), nn.Dropout(0.2))
        self.weights = nn.Linear(96, HIDDEN * CONTENT + HIDDEN + HIDDEN + 1)
        nn.init.normal_(self.weights.weight, std=0.01)
        nn.init.normal_(self.weights.bias, std=0.1)

    def ratings(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        parts = [reduce(mean_std(z)) for reduce, z in zip(self.content, features, strict=True)]
        v = self.norm(torch.stack(parts).sum(0)).relu()
        semantic = self.semantic(features[3].mean((2, 3)))
        w1, b1, w2, b2 = self.weights(semantic).split([HIDDEN * CONTENT, HIDDEN, HIDDEN, 1], 1)
        hidden = ((w1.view(-1, HIDDEN, CONTENT) @ v[..., None])[..., 0] + b1).relu()
        return (hidden * w2).sum(1, keepdim=True) + b2


def _reduce(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, outputs))
