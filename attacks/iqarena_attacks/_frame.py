"""The one iterative loop: view → gradient → direction → step, each a hook.

    z_0 = start(x)
    d_{t+1} = direction(gradient(view(z_t)), d_t)
    z_{t+1} = Π( z_t + alpha · s · sign(d_{t+1}) )

``Π`` clips to the ``eps`` ball around ``x`` and to [0, 1]; ``s`` is +1 to raise the score, −1 to lower it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from iqarena.api import Attack, Source, SpecError, Streams


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

    @property
    def stride(self) -> float:
        return self.eps / self.steps if self.alpha is None else self.alpha

    def start(self, x: Tensor, streams: Streams) -> Tensor:
        return x

    def view(self, z: Tensor, memory: Tensor, direction: Tensor) -> Tensor:
        """Where the gradient is taken."""
        return z

    def gradient(self, z: Tensor, model: Source, streams: Streams) -> Tensor:
        return model.gradient(z)

    def direction(self, gradient: Tensor, memory: Tensor) -> Tensor:
        """The ascent direction of ``s = +1``; it is also the ``memory`` of the next step (zeros at first)."""
        return gradient

    def step(self, z: Tensor, move: Tensor, x: Tensor) -> Tensor:
        """``Π(z + move)``."""
        return (z + move).sub_(x).clamp_(-self.eps, self.eps).add_(x).clamp_(0, 1)

    def perturb(self, x: Tensor, direction: Tensor, model: Source, streams: Streams) -> Tensor:
        z, d = self.start(x, streams), torch.zeros_like(x)
        for _ in range(self.steps):
            d = self.direction(self.gradient(self.view(z, d, direction), model, streams), d)
            z = self.step(z, d.sign().mul_(self.stride * direction), x)
        return z


def unit(gradient: Tensor) -> Tensor:
    """``g / mean|g|`` of each image; a gradient that is zero everywhere stays zero."""
    mean = gradient.abs().mean((-3, -2, -1), keepdim=True)
    return gradient / mean.where(mean > 0, mean.new_ones(()))


def through(transform: Callable[[Tensor], Tensor], z: Tensor, model: Source, of: Tensor | None = None) -> Tensor:
    """Gradient of ``f(transform(z))`` with respect to ``z``, by the chain rule; ``of`` as in ``Source.gradient``."""
    leaf = z.detach().requires_grad_(True)
    with torch.enable_grad():
        seen = transform(leaf)
    return torch.autograd.grad(seen, leaf, model.gradient(seen.detach(), of))[0]
