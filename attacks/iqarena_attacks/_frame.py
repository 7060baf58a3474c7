"""The one iterative loop: view → gradient → direction → step, each a hook.

    z_0 = start(x)
    z_{t+1} = Π( z_t + alpha · s · sign(d_t) ),   d_t = direction(gradient at view(z_t))

``Π`` clips to the ``eps`` ball around ``x`` and to [0, 1]; ``s`` is +1 to raise the score, −1 to lower it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from iqarena.api import Attack, SpecError
from iqarena.seeding import Streams
from iqarena.source import Source


@dataclass(frozen=True, kw_only=True, repr=False)
class Iterative(Attack):
    """An iterative sign attack; subclasses override hooks. ``alpha`` is the step, ``none`` means ``eps / steps``."""

    steps: int = 10
    alpha: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise SpecError(f"{self.name}: expected steps ≥ 1, found {self.steps}")
        if self.alpha is not None and self.alpha <= 0:
            raise SpecError(f"{self.name}: expected alpha > 0, found {self.alpha}")

    @property
    def cost(self) -> int:
        return self.steps

    def start(self, x: Tensor, streams: Streams) -> Tensor:
        return x

    def direction(self, gradient: Tensor, memory: Tensor) -> Tensor:
        """The ascent direction of ``s = +1``; it is also the ``memory`` of the next step (zeros at first)."""
        return gradient

    def perturb(self, x: Tensor, direction: Tensor, model: Source, streams: Streams) -> Tensor:
        alpha = self.eps / self.steps if self.alpha is None else self.alpha
        z, d = self.start(x, streams), torch.zeros_like(x)
        for _ in range(self.steps):
            d = self.direction(model.gradient(z), d)
            z = d.sign().mul_(alpha * direction).add_(z)
            z = z.sub_(x).clamp_(-self.eps, self.eps).add_(x).clamp_(0, 1)
        return z
