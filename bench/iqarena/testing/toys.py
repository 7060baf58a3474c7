"""What checks are made with: two scorers with known answers, and images that reach every corner of the box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from iqarena.api import Model

ROWS = range(5)
SIZE = (32, 40)


class LinearNet(nn.Module):
    """``f(x) = 50 + 40 · mean(w · (x - 1/2))`` with ``w`` of ±1 blocks: its best L∞ gain has a closed form."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        pattern = torch.randint(0, 2, (3, 8, 8), generator=torch.Generator().manual_seed(seed)).float() * 2 - 1
        self.pattern = nn.Parameter(pattern)

    def weights(self, x: Tensor) -> Tensor:
        """The gradient of the score, ``(3, H, W)``."""
        height, width = x.shape[-2:]
        tiled = self.pattern.repeat(1, -(-height // 8), -(-width // 8))[:, :height, :width]
        return 40 * tiled / tiled.numel()

    def forward(self, x: Tensor) -> Tensor:
        return 50 + ((x - 0.5) * self.weights(x)).sum((1, 2, 3))


class CurvedNet(nn.Module):
    """A small smooth network: cheap, and unlike the linear one its gradient depends on the image."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(6, 3, 3, 3, generator=generator) / 3)
        self.last = nn.Parameter(torch.randn(6, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        features = torch.tanh(nn.functional.conv2d(x - 0.5, self.first, stride=2, padding=1)).mean((2, 3))
        return 50 + 30 * (features * self.last).sum(1)


@dataclass(frozen=True, kw_only=True, repr=False)
class Linear(Model):
    name = "toy_linear"

    seed: int = 0

    @property
    def backbones(self) -> tuple[str, ...]:
        return (repr(self),)  # another seed is another network

    def load(self) -> LinearNet:
        return LinearNet(self.seed)


@dataclass(frozen=True, kw_only=True, repr=False)
class Curved(Model):
    name = "toy_curved"
    min_size = 16

    seed: int = 0

    @property
    def backbones(self) -> tuple[str, ...]:
        return (repr(self),)

    def load(self) -> CurvedNet:
        return CurvedNet(self.seed)


class SteepNet(nn.Module):
    """``50 + factor · (f(x) − 50)``."""

    def __init__(self, net: nn.Module, factor: float) -> None:
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x: Tensor) -> Tensor:
        return 50 + self.factor * (self.net(x) - 50)


@dataclass(frozen=True, kw_only=True, repr=False)
class Steep(Model):
    """Another toy's score, spread: few queries and one grey level are enough to move it by points."""

    name = "toy_steep"
    min_size = 16

    of: Model = Linear()
    factor: float = 100.0

    def load(self) -> SteepNet:
        return SteepNet(self.of.load(), self.factor)


def images(rows: Sequence[int] = ROWS, size: tuple[int, int] = SIZE) -> Tensor:
    """uint8 ``(N, 3, H, W)``: flat on the left, each row another grey; noise with black and white on the right."""
    made = []
    for row in rows:
        image = torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(row), dtype=torch.uint8)
        image[:, :, : size[1] // 3] = 30 + 45 * (row % 5)
        image[:, :2], image[:, -2:] = 0, 255
        made.append(image)
    return torch.stack(made)
