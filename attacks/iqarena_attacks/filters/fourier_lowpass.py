"""``fourier_lowpass`` — keep the slow waves of a gradient, per channel.

    F⁻¹( F(t) ⊙ [√(u² + v²) ≤ cutoff] )

Frequencies ``u``, ``v`` are in cycles a pixel: at most 0.5 along a side, and 0.71 along the diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from iqarena.api import Filter, SpecError, Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class FourierLowpass(Filter):
    name = "fourier_lowpass"

    cutoff: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.cutoff <= 0.75:
            raise SpecError(f"{self.name}: expected cutoff in (0, 0.75] cycles a pixel, found {self.cutoff}")

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        return lowpass(t, self.cutoff)


def lowpass(t: Tensor, cutoff: float) -> Tensor:
    """The part of ``t`` ``(N, 3, H, W)`` at up to ``cutoff`` cycles a pixel."""
    height, width = t.shape[-2:]
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)).to(t.device)
    return torch.fft.irfft2(torch.fft.rfft2(t) * (frequency <= cutoff), s=(height, width))
