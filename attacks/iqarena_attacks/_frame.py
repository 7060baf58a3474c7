"""The one iterative loop: view → gradient → accumulate → move → project, each a hook.

    g_t = gradient(view(z_t)),   m_{t+1} = accumulate(g_t, m_t),   z_{t+1} = project( z_t + move(m_{t+1}) )

Every hook but ``accumulate`` is given the state of the loop. An attack ascends: the engine differentiates ``s · f``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from iqarena.api import Attack, Source, Streams


@dataclass
class State:
    """Where the loop is: the clean images ``x``, the point ``z``, the step ``t``, the momentum ``m`` and more."""

    x: Tensor
    z: Tensor
    source: Source
    streams: Streams
    m: Tensor
    t: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, repr=False)
class Iterative(Attack):
    """An iterative sign attack; subclasses override hooks.

    steps: points at which a gradient is taken
    alpha: length of a step in [0, 1] units; none is eps / steps
    """

    steps: Annotated[int, Ge(1)] = 10
    alpha: Annotated[float, Gt(0)] | None = None

    @property
    def cost(self) -> int:
        return self.steps

    @property
    def stride(self) -> float:
        return self.eps / self.steps if self.alpha is None else self.alpha

    def start(self, s: State) -> None:
        """Change ``s.z``, which is ``x``, or fill ``s.memory``, before the first step."""

    def view(self, s: State) -> Tensor:
        """Where the gradient is taken."""
        return s.z

    def gradient(self, z: Tensor, s: State) -> Tensor:
        """``g``, the gradient at the view ``z`` or what is made of it."""
        return s.source.gradient(z)

    def accumulate(self, g: Tensor, m: Tensor) -> Tensor:
        """The next ``m``, whose sign is the step; zeros at first."""
        return g

    def move(self, s: State) -> Tensor:
        """What is added to ``z``."""
        return self.stride * s.m.sign()

    def project(self, z: Tensor, s: State) -> Tensor:
        """To the ``eps`` ball around ``x``, and to [0, 1]."""
        return (z - s.x).clamp_(-self.eps, self.eps).add_(s.x).clamp_(0, 1)

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        return self.ascend(State(x, x, source, streams, torch.zeros_like(x)))

    def ascend(self, s: State) -> Tensor:
        self.start(s)
        for s.t in range(self.steps):
            s.m = self.accumulate(self.gradient(self.view(s), s), s.m)
            s.z = self.project(s.z + self.move(s), s)
        return s.z


def unit(g: Tensor) -> Tensor:
    """``g / mean|g|`` of each image; a gradient that is zero everywhere stays zero."""
    mean = g.abs().mean((-3, -2, -1), keepdim=True)
    return g / mean.where(mean > 0, mean.new_ones(()))


def through(transform: Callable[[Tensor], Tensor], z: Tensor, source: Source) -> Tensor:
    """Gradient of ``s·f(transform(z))`` with respect to ``z``, by the chain rule."""
    leaf = z.detach().requires_grad_(True)
    with torch.enable_grad():
        transformed = transform(leaf)
    return torch.autograd.grad(transformed, leaf, source.gradient(transformed.detach()))[0]
