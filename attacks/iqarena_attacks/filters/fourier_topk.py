"""``fourier_topk`` — keep the strongest Fourier coefficients, per channel (SEGA's M^F, our reconstruction).

    F⁻¹( F(t) ⊙ [|F(t)| ≥ q] )

``q`` is such that the share ``keep`` of the coefficients of the half spectrum (of a real ``t``) stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from iqarena.api import Filter, SpecError, Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class FourierTopk(Filter):
    name = "fourier_topk"
    reconstructed = "the paper's gradient filter is not published in detail; this is our reading of it"

    keep: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise SpecError(f"{self.name}: expected keep in (0, 1], found {self.keep}")

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        spectrum = torch.fft.rfft2(t)
        strength = spectrum.abs().flatten(2)
        drop = strength.shape[2] - max(1, round(self.keep * strength.shape[2]))
        if drop == 0:
            return t
        weakest_kept = strength.kthvalue(drop + 1, dim=2).values[..., None, None]
        return torch.fft.irfft2(spectrum * (spectrum.abs() >= weakest_kept), s=t.shape[-2:])
