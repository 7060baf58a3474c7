"""``linearity``: a linearity-inducing scorer in the spirit of LinearityIQA (Li, Jiang, Jiang, ACM MM 2020).

Kept from the paper: two taps of the backbone, each pooled, reduced to 64 numbers and rated on its own, a final linear
rating of both, and the norm-in-norm loss on all three ratings, weighted 0.1, 0.1, 1; a straight line fitted after
training maps ratings to opinion scores. Changed: EfficientNet-Lite0 from ImageNet instead of ResNeXt-101, one hidden
layer per tap instead of two, layer instead of batch normalisation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from iqarena_models.zoo.backbones.lite import CHANNELS, Lite
from iqarena_models.zoo.net import ScorerNet, mean_std


class LinearityNet(ScorerNet):
    backbone: Lite

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__(Lite(pretrained=pretrained))
        self.reduce1, self.reduce2 = _reduce(CHANNELS[0]), _reduce(CHANNELS[1])
        self.rate1, self.rate2, self.regression = nn.Linear(64, 1), nn.Linear(64, 1), nn.Linear(128, 1)

    def ratings(self, x: Tensor) -> Tensor:
        """``(N, 3)``: the two taps' ratings and the final one."""
        a, b = (reduce(mean_std(z)) for reduce, z in zip((self.reduce1, self.reduce2), self.backbone(x), strict=True))
        return torch.cat([self.rate1(a), self.rate2(b), self.regression(torch.cat([a, b], 1))], 1)


def _reduce(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(2 * channels), nn.Linear(2 * channels, 256), nn.LayerNorm(256), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(256, 64), nn.LayerNorm(64), nn.ReLU(),
    )  # fmt: skip
