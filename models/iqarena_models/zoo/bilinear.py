"""``bilinear``: a two-stream bilinear scorer in the spirit of DBCNN (Zhang, Ma, Yan, Deng, Wang, TCSVT 2020).

Kept from the paper: one stream that knows content (VGG-16), one that knows distortions, joined by an outer product over
positions, signed square root and ℓ2 normalisation. Changed: VGG-16 up to conv3_2, of the image averaged over 2×2
pixels, since at full size it would cost four times as much; the distortion stream, which sees the full resolution, is
trained with the scorer instead of on a distortion-classification task of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqarena_models.zoo.backbones.vgg import WIDTHS, Vgg
from iqarena_models.zoo.net import ScorerNet, code, conv, pad_to_multiple

DEPTH = 6  # convolutions


class BilinearNet(ScorerNet):
    backbone: Vgg

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__(Vgg(DEPTH, pretrained=pretrained))
        self.content = nn.Conv2d(WIDTHS[DEPTH - 1], 64, 1)
        self.distortion = nn.Sequential(conv(3, 24, 2), conv(24, 32, 2), conv(32, 48, 2), conv(48, 48), conv(48, 32))
        self.regression = nn.Linear(64 * 32, 1)

    def ratings(self, x: Tensor) -> Tensor:
        x = pad_to_multiple(x, 8)
        content = self.content(self.backbone(F.avg_pool2d(x, 2)))
        distortion = self.distortion(code(x, (0.45,) * 3, (0.25,) * 3))
        pooled = torch.einsum("nchw,ndhw->ncd", content, distortion).flatten(1) / content[0, 0].numel()
        rooted = pooled / (pooled.abs() + 1e-6).sqrt()  # signed square root, smooth at 0
        return 8 * self.regression(F.normalize(rooted, dim=1))
