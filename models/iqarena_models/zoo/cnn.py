"""``cnn``: a plain convolutional scorer in the spirit of CNNIQA (Kang, Ye, Li, Doermann, CVPR 2014).

Kept from the paper: local contrast normalisation of the grey image, which is all that the first layer sees, and max and
min pooling over patches whose results are averaged. Changed: colour joins after the first layer, seven 3×3 layers
instead of one 7×7, patches of 64 pixels instead of 32, mean pooling as a third pool. Trained from scratch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqarena.images.tensors import luma
from iqarena_models.zoo.net import ScorerNet, conv, normalised


class CnnNet(ScorerNet):
    def __init__(self) -> None:
        super().__init__()
        self.first = conv(1, 32, 2)
        self.body = nn.Sequential(
            conv(32 + 3, 48, 2), conv(48, 64, 2), conv(64, 96), conv(96, 128, 2), conv(128, 160, 2), conv(160, 160)
        )
        self.head = nn.Sequential(nn.Linear(480, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1))

    def ratings(self, x: Tensor) -> Tensor:
        colour = F.avg_pool2d(normalised(x, (0.45,) * 3, (0.25,) * 3), 2, ceil_mode=True)
        f = self.body(torch.cat([self.first(local_contrast(x)), colour], 1))
        highest, lowest = F.max_pool2d(f, 2, ceil_mode=True), -F.max_pool2d(-f, 2, ceil_mode=True)
        return self.head(torch.cat([z.mean((2, 3)) for z in (f, highest, lowest)], 1))


def local_contrast(x: Tensor) -> Tensor:
    """Locally normalised luma ``(N, 1, H, W)``: ``(I − μ) / (σ + 0.01)`` over 7×7 windows."""
    grey = luma(x)
    padded = F.pad(grey, (3, 3, 3, 3), mode="replicate")
    mean, square = (F.avg_pool2d(F.avg_pool2d(v, (7, 1), 1), (1, 7), 1) for v in (padded, padded.square()))
    return (grey - mean) / ((square - mean.square()).clamp_min(1e-6).sqrt() + 0.01)
