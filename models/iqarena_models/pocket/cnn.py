"""``cnn``: a plain convolutional scorer in the spirit of CNNIQA (Kang, Ye, Li, Doermann, CVPR 2014).

Kept from the paper: local contrast normalisation of the grey image, which is all that the first layer sees, and
max/min pooling over all positions. Changed: colour joins after the first layer, six 3×3 layers instead of one 7×7, mean
pooling as a third pool, whole images instead of patches. Trained from scratch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from iqarena_models.pocket.net import PocketNet, beside_colour, conv, local_contrast


class CnnNet(PocketNet):
    def __init__(self) -> None:
        super().__init__()
        self.first = conv(1, 32, 2)
        self.body = nn.Sequential(conv(32 + 3, 48, 2), conv(48, 64, 2), conv(64, 96), conv(96, 128, 2), conv(128, 160))
        self.head = nn.Sequential(nn.Linear(480, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1))

    def rate(self, half: Tensor, z: Tensor) -> Tensor:
        f = self.body(beside_colour(self.first(local_contrast(half)), half))
        return self.head(torch.cat([f.mean((2, 3)), f.amax((2, 3)), f.amin((2, 3))], 1))[:, 0]
