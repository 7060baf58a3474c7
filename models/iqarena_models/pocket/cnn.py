"""``cnn``: a plain convolutional scorer in the spirit of CNNIQA (Kang, Ye, Li, Doermann, CVPR 2014).

Kept from the paper: local contrast normalisation of the grey picture, ``(I - μ) / (σ + c)``, and max/min pooling over
all positions. Changed: colour stays beside the normalised channel, six 3×3 layers instead of one 7×7, mean pooling
as a third pool, whole pictures instead of patches. Trained from scratch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqarena_models.pocket.net import PocketNet, conv


class CnnNet(PocketNet):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(4, 32, 2), conv(32, 48, 2), conv(48, 64, 2), conv(64, 96), conv(96, 128, 2), conv(128, 160)
        )
        self.head = nn.Sequential(nn.Linear(480, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1))

    def rate(self, half: Tensor, z: Tensor) -> Tensor:
        f = self.body(torch.cat([(half - 0.45) / 0.25, local_contrast(half)], 1))
        return self.head(torch.cat([f.mean((2, 3)), f.amax((2, 3)), f.amin((2, 3))], 1))[:, 0]


def local_contrast(x: Tensor) -> Tensor:
    """Locally normalised luma ``(N, 1, H, W)`` over 7×7 windows; ``c`` is 1/20 of full scale."""
    luma = (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    padded = F.pad(luma, (3, 3, 3, 3), mode="replicate")
    mean = F.avg_pool2d(padded, 7, 1)
    variance = F.avg_pool2d(padded.square(), 7, 1) - mean.square()
    return (luma - mean) / (variance.clamp_min(1e-6).sqrt() + 0.05)
