"""Toy scorers with known answers, for fast tests; registered through the same door as any plugin file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from iqarena import testing
from iqarena.api import Model


class Linear(testing.Linear):
    """``toy_linear``: the best gain has a closed form."""


class Curved(testing.Curved):
    """``toy_curved``: the gradient depends on the image."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Step(Model):
    """Rounds its score: a target without a gradient."""

    name = "toy_step"
    differentiable = False

    def load(self) -> nn.Module:
        return _Rounded()


@dataclass(frozen=True, kw_only=True, repr=False)
class Shut(Model):
    """A steep score whose backward raises: it can be queried and nothing else."""

    name = "toy_shut"
    differentiable = False

    def load(self) -> nn.Module:
        return _NoBackward(testing.Steep(of=testing.Curved()).load())


@dataclass(frozen=True, kw_only=True, repr=False)
class Constant(Model):
    """Says 40 whatever it is shown."""

    name = "toy_constant"
    differentiable = False

    def load(self) -> nn.Module:
        return _Forty()


@dataclass(frozen=True, kw_only=True, repr=False)
class Noisy(Model):
    """A score with noise that differs from call to call."""

    name = "toy_noisy"
    differentiable = False
    stochastic = True

    def load(self) -> nn.Module:
        return _Noise(testing.Steep(of=testing.Curved()).load())


class _NoBackward(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return _Raise.apply(self.net(x))  # pyright: ignore[reportReturnType]


class _Raise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, score: Tensor) -> Tensor:
        return score.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        raise RuntimeError("a gradient was asked for")


class _Forty(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), 40.0)


class _Noise(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.draw = net, torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + torch.randn(len(x), generator=self.draw)


class _Rounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.round(100 * x.mean((1, 2, 3))).detach()
