"""Toy scorers with known answers, for fast tests; registered through the same door as any plugin file."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from iqarena import testing
from iqarena.api import Model


class Linear(testing.Linear):
    """``toy_linear``: the best gain has a closed form."""


class Curved(testing.Curved):
    """``toy_curved``: the gradient depends on the picture."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Step(Model):
    """Rounds its score: a target without a gradient."""

    name = "toy_step"
    differentiable = False

    def load(self) -> nn.Module:
        return _Rounded()


class _Rounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.round(100 * x.mean((1, 2, 3))).detach()
