"""What two scorers of the first zoo have in common: the input rule, the frozen stem and the calibrated output.

A scorer looks at the image at half its size (2×2 area average), so 512×384 becomes 256×192. ``stem`` is the part
that training leaves alone (a pretrained trunk's early stages; nothing for scorers trained from scratch), ``rate`` the
rest. Training pre-computes the stem once per image, which is why the two are apart.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


class PocketNet(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1], both sides ≥ 64 → scores ``(N,)`` in 0–100, higher = better.

    A rating ``r`` becomes ``y = shift + scale · r`` by a straight line fitted to opinion scores, and the score is
    ``100 / (1 + exp(−(y − 50) / 25))``: nearly ``y`` over the middle of the scale (slope 1 at 50), never outside
    0–100, and never without a gradient as a clipped one would be.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem: nn.Module | None = None
        self.register_buffer("scale", torch.tensor(15.0))
        self.register_buffer("shift", torch.tensor(50.0))

    @abstractmethod
    def rate(self, half: Tensor, z: Tensor) -> Tensor:
        """Half-size images and their stem features (the images again without a stem) → raw ratings ``(N,)``."""

    def forward(self, x: Tensor) -> Tensor:
        half = F.avg_pool2d(x, 2)
        return self.score(self.rate(half, half if self.stem is None else self.stem(half)))

    def score(self, ratings: Tensor) -> Tensor:
        return 100 * torch.sigmoid((self.shift + self.scale * ratings - 50) / 25)


def conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def local_contrast(x: Tensor) -> Tensor:
    """Locally normalised luma ``(N, 1, H, W)``: ``(I − μ) / (σ + 0.01)`` over 7×7 windows (CNNIQA's input)."""
    luma = (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    padded = F.pad(luma, (3, 3, 3, 3), mode="replicate")
    mean, square = (F.avg_pool2d(F.avg_pool2d(v, (7, 1), 1), (1, 7), 1) for v in (padded, padded.square()))
    return (luma - mean) / ((square - mean.square()).clamp_min(1e-6).sqrt() + 0.01)


def beside_colour(features: Tensor, half: Tensor) -> Tensor:
    """Features at half the resolution of ``half``, and its colours as three more channels.

    Colours in the first convolution itself drown what is faint beside them: such a scorer never learns JPEG.
    """
    return torch.cat([features, F.avg_pool2d((half - 0.45) / 0.25, 2, ceil_mode=True)], 1)


def fold(net: PocketNet) -> PocketNet:
    """Fold the batch normalisation of every :func:`conv` into its convolution, in place: same scores, less work."""
    for block in net.modules():
        if isinstance(block, nn.Sequential) and len(block) > 1:
            first, second = block[0], block[1]
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                block[0], block[1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return net
