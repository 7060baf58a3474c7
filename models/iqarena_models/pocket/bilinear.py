"""``bilinear``: a two-stream bilinear scorer in the spirit of DBCNN (Zhang, Ma, Yan, Deng, Wang, TCSVT 2020).

Kept from the paper: one stream that knows content (here EfficientNet-Lite0 from ImageNet instead of VGG-16), one that
knows distortions, joined by an outer product over positions, signed square root and ℓ2 normalisation. Changed: the
distortion stream is trained with the scorer instead of on a distortion-classification task of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqarena_models.pocket.net import PocketNet, conv
from iqarena_models.pocket.trunk import CHANNELS, build_trunk


class BilinearNet(PocketNet):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.tail = build_trunk("lite0")
        self.content = nn.Conv2d(CHANNELS[2], 64, 1)
        self.distortion = nn.Sequential(
            conv(3, 16, 2), conv(16, 32, 2), conv(32, 48, 2), conv(48, 48, 2), conv(48, 32, 2)
        )
        self.head = nn.Linear(64 * 32, 1)

    def rate(self, half: Tensor, z: Tensor) -> Tensor:
        for stage in self.tail:
            z = stage(z)
        content, distortion = self.content(z), self.distortion((half - 0.45) / 0.25)
        pooled = torch.einsum("nchw,ndhw->ncd", content, distortion).flatten(1) / content[0, 0].numel()
        rooted = pooled / (pooled.abs() + 1e-6).sqrt()  # signed square root, smooth at 0
        return 8 * self.head(F.normalize(rooted, dim=1))[:, 0]
