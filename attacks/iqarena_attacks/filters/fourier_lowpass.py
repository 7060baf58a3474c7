"""``fourier_lowpass`` — keep the slow waves of a gradient, per channel.

    F⁻¹( F(t) ⊙ [√(u² + v²) ≤ cutoff] )

Frequencies ``u``, ``v`` are in cycles a pixel: at most 0.5 along a side, and 0.71 along the diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval, Unit
from torch import Tensor

from iqarena.api import Filter, Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class FourierLowpass(Filter):
    """cutoff: highest frequency that is kept, in cycles a pixel"""

    name = "fourier_lowpass"

    cutoff: Annotated[float, Interval(gt=0, le=0.75), Unit("cycles a pixel")] = 0.25

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        return lowpass(t, self.cutoff)


def lowpass(t: Tensor, cutoff: float) -> Tensor:
    """The part of ``t`` ``(N, 3, H, W)`` at up to ``cutoff`` cycles a pixel."""
    height, width = t.shape[-2:]
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)).to(t.device)
    return torch.fft.irfft2(torch.fft.rfft2(t) * (frequency <= cutoff), s=(height, width))
