"""``bilinear``: a two-stream bilinear scorer in the spirit of DBCNN (Zhang, Ma, Yan, Deng, Wang, TCSVT 2020).

Kept from the paper: one stream that knows content (VGG-16), one that knows distortions, joined by an outer product over
positions and a signed square root. Changed: VGG-16 up to conv3_3, of the image averaged over 2×2 pixels, since at full
size it would cost four times as much; the distortion stream, which sees the full resolution, is trained with the scorer
instead of on a distortion-classification task of its own; beside the products stand means and deviations of three
depths of VGG-16, layer normalisation takes the place of the ℓ2 norm, and there is a hidden layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqarena_models.zoo.backbones.vgg import WIDTHS, Vgg
from iqarena_models.zoo.net import ScorerNet, at_least_float, conv, mean_std, normalised, pad_to_multiple

TAPS = (3, 5, 6)  # convolutions of VGG-16, counted from 0: conv2_2, conv3_2, conv3_3
CHANNELS = 32  # of each stream


class BilinearNet(ScorerNet):
    backbone: Vgg

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__(Vgg(TAPS, pretrained=pretrained))
        self.content = nn.Conv2d(WIDTHS[TAPS[-1]], CHANNELS, 1)
        self.distortion = nn.Sequential(
            conv(3, 24, 2), conv(24, 32, 2), conv(32, 48, 2), conv(48, 48), conv(48, CHANNELS)
        )
        parts = [CHANNELS**2, *(WIDTHS[tap] for tap in TAPS for _ in range(2))]
        self.norms = nn.ModuleList(nn.LayerNorm(numbers) for numbers in parts)
        self.regression = nn.Sequential(
            nn.Linear(sum(parts), 128), nn.LayerNorm(128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 1)
        )

    def ratings(self, x: Tensor) -> Tensor:
        x = pad_to_multiple(x, 8)
        features = self.backbone(F.avg_pool2d(x, 2))
        content, distortion = self.content(features[-1]), self.distortion(normalised(x, (0.45,) * 3, (0.25,) * 3))
        products = at_least_float(torch.einsum("nchw,ndhw->ncd", content, distortion)).flatten(1)
        products = products / content[0, 0].numel()
        rooted = products / (products.abs() + 1e-4).sqrt()  # signed square root, smooth at 0
        parts = [rooted, *(part for z in features for part in mean_std(at_least_float(z)).chunk(2, 1))]
        return self.regression(torch.cat([norm(part) for norm, part in zip(self.norms, parts, strict=True)], 1))
