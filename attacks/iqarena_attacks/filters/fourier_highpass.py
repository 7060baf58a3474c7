"""``fourier_highpass`` — keep the fast waves of a gradient, per channel: what ``fourier_lowpass`` takes away.

    t − F⁻¹( F(t) ⊙ [√(u² + v²) ≤ cutoff] )

Frequencies ``u``, ``v`` are in cycles a pixel; cutoff 0 takes away the mean only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval, Unit
from torch import Tensor

from iqarena.api import Filter, Streams
from iqarena_attacks.filters.fourier_lowpass import lowpass


@dataclass(frozen=True, kw_only=True, repr=False)
class FourierHighpass(Filter):
    """cutoff: highest frequency that is taken away, in cycles a pixel"""

    name = "fourier_highpass"

    cutoff: Annotated[float, Interval(ge=0, le=0.75), Unit("cycles a pixel")] = 0.25

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        return t - lowpass(t, self.cutoff)
