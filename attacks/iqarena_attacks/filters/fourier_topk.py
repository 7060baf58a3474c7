"""``fourier_topk`` — keep the strongest Fourier coefficients, per channel (SEGA's M^F, our reconstruction).

    F⁻¹( F(t) ⊙ [|F(t)| ≥ q] )

``q`` is such that the share ``keep`` of the coefficients of the half spectrum (of a real ``t``) stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor

from iqarena.api import Filter, Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class FourierTopk(Filter):
    """keep: share of the coefficients that is kept"""

    name = "fourier_topk"
    reconstructed = "the paper's gradient filter is not published in detail; this is our reading of it"

    keep: Annotated[float, Interval(gt=0, le=1)] = 0.5

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        spectrum = torch.fft.rfft2(t)
        strength = spectrum.abs().flatten(2)
        drop = strength.shape[2] - max(1, round(self.keep * strength.shape[2]))
        if drop == 0:
            return t
        weakest_kept = strength.kthvalue(drop + 1, dim=2).values[..., None, None]
        return torch.fft.irfft2(spectrum * (spectrum.abs() >= weakest_kept), s=t.shape[-2:])
