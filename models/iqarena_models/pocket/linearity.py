"""``linearity``: a linearity-inducing scorer in the spirit of LinearityIQA (Li, Jiang, Jiang, ACM MM 2020).

Kept from the paper: two taps of the trunk, each pooled, reduced to 64 numbers and rated on its own, a final linear
rating of both, and the norm-in-norm loss on all three ratings, weighted 0.1, 0.1, 1; a straight line fitted after
training maps ratings to opinion scores. Changed: EfficientNet-Lite0 from ImageNet instead of ResNeXt-101, one hidden
layer per tap instead of two, pictures at half size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from iqarena_models.pocket.net import PocketNet, mean_std
from iqarena_models.pocket.trunk import CHANNELS, build_trunk


class LinearityNet(PocketNet):
    def __init__(self, *, imagenet: bool = False) -> None:
        super().__init__()
        self.stem, self.tail = build_trunk("lite0", imagenet=imagenet)
        self.reduce1, self.reduce2 = _reduce(CHANNELS[0]), _reduce(CHANNELS[2])
        self.rate1, self.rate2, self.regression = nn.Linear(64, 1), nn.Linear(64, 1), nn.Linear(128, 1)

    def ratings(self, z: Tensor) -> Tensor:
        """``(N, 3)``: the two taps' ratings and the final one."""
        last = self.tail[1](self.tail[0](z))
        a, b = self.reduce1(mean_std(z)), self.reduce2(mean_std(last))
        return torch.cat([self.rate1(a), self.rate2(b), self.regression(torch.cat([a, b], 1))], 1)

    def rate(self, half: Tensor, z: Tensor) -> Tensor:
        return self.ratings(z)[:, 2]


def _reduce(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2 * channels, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(256, 64), nn.BatchNorm1d(64), nn.ReLU(),
    )  # fmt: skip
