"""What the five scorers have in common: ratings, a backbone that learns slower, and the calibrated output."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB in [0, 1]


class ScorerNet(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1], any sides ≥ 64 → scores ``(N,)`` in 0–100, higher = better.

    A rating ``r`` becomes ``y = shift + scale · r`` by a straight line fitted to opinion scores, and the score is
    ``100 / (1 + exp(−(y − 50) / 25))``: nearly ``y`` over the middle of the scale (slope 1 at 50), never outside
    0–100, and never without a gradient as a clipped one would be. ``backbone`` is the pretrained part.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("scale", torch.tensor(15.0))
        self.register_buffer("shift", torch.tensor(50.0))

    @abstractmethod
    def ratings(self, x: Tensor) -> Tensor:
        """Images ``(N, 3, H, W)`` → ratings ``(N, R)`` without a unit; the last column is the final one."""

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.ratings(x)[:, -1])

    def score(self, rating: Tensor) -> Tensor:
        """Final ratings ``(N,)`` → scores ``(N,)``."""
        return 100 * torch.sigmoid((self.shift + self.scale * rating - 50) / 25)


def normalised(x: Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """Images ``(N, 3, H, W)`` as ``(x − mean) / std`` per channel."""
    return (x - x.new_tensor(mean).view(1, 3, 1, 1)) / x.new_tensor(std).view(1, 3, 1, 1)


def pad_to_multiple(x: Tensor, side: int) -> Tensor:
    """The image with its last row and column repeated until both sides are multiples of ``side``."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % side, 0, -height % side), mode="replicate")


def at_least_float(z: Tensor) -> Tensor:
    """What a training in bfloat16 found, as float32; float32 and float64 as they are."""
    return z.to(torch.promote_types(z.dtype, torch.float32))


def mean_std(features: Tensor) -> Tensor:
    """Spatial mean and standard deviation: ``(N, C, H, W)`` → ``(N, 2C)``."""
    mean = features.mean((2, 3))
    variance = (features - mean[..., None, None]).square().mean((2, 3))
    return torch.cat([mean, (variance + 1e-6).sqrt()], 1)


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3×3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def fold(net: ScorerNet) -> ScorerNet:
    """Fold the batch normalisation of every :func:`conv` into its convolution, in place: same scores, less work."""
    for block in net.modules():
        if isinstance(block, nn.Sequential) and len(block) > 1:
            first, second = block[0], block[1]
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                block[0], block[1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return net
