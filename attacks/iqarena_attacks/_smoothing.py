"""Gradients of noisy copies, averaged: what SEGA and SmoothGrad go by, and share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from iqarena.api import Member, Streams

COPIES = 16  # evaluated together: a GPU's micro-batch


@dataclass(frozen=True)
class Smoothing:
    """``1/N Σ_i f(x + σ u_i)`` and its gradient, ``u_i ~ N(0, I)``.

    The noise depends on image, seed, repeat and ``step`` only, and is the same for all members unless ``shared_noise``
    is off; ``antithetic`` noise is ``u_1, −u_1, u_2, −u_2, …``.

    sigma: standard deviation in [0, 1] units, above 0; or one for each image
    samples: N
    """

    sigma: float | tuple[float, ...]
    samples: int
    antithetic: bool = False
    shared_noise: bool = True
    step: int = 0

    def __call__(self, members: Sequence[Member], x: Tensor, streams: Streams) -> list[tuple[Tensor, Tensor]]:
        drawn: dict[str, Tensor] = {}

        def noise(i: int, whose: str) -> Tensor:
            draw, mirrored = divmod(i, 2) if self.antithetic else (i, 0)
            purpose = f"smoothing {draw}{f' step {self.step}' if self.step else ''}{whose}"
            if purpose not in drawn:
                drawn[purpose] = streams.shared(purpose).normal(x)
            return -drawn[purpose] if mirrored else drawn[purpose]

        sigma = torch.tensor(self.sigma).view(-1, 1, 1, 1).to(x) if isinstance(self.sigma, tuple) else self.sigma
        means = []
        for member in members:
            whose = "" if self.shared_noise else f" {member.spec}"
            value, g = torch.zeros(len(x), dtype=torch.float64, device=x.device), torch.zeros_like(x)
            for part in torch.arange(self.samples).split(max(1, COPIES // len(x))):
                copies = torch.cat([x + sigma * noise(i, whose) for i in part.tolist()])
                for v, gradient in zip(*(t.split(len(x)) for t in member.value_and_gradient(copies)), strict=True):
                    value += v
                    g += gradient
            means.append((value / self.samples, g / self.samples))
        return means
