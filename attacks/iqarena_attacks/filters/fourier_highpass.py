"""``fourier_highpass`` — keep the fast waves of a gradient, per channel: what ``fourier_lowpass`` takes away.

    t − F⁻¹( F(t) ⊙ [√(u² + v²) ≤ cutoff] )

Frequencies ``u``, ``v`` are in cycles a pixel; cutoff 0 takes away the mean only.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from iqarena.api import Filter, SpecError, Streams
from iqarena_attacks.filters.fourier_lowpass import lowpass


@dataclass(frozen=True, kw_only=True, repr=False)
class FourierHighpass(Filter):
    name = "fourier_highpass"

    cutoff: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.cutoff <= 0.75:
            raise SpecError(f"{self.name}: expected cutoff in [0, 0.75] cycles a pixel, found {self.cutoff}")

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        return t - lowpass(t, self.cutoff)
