"""Gaussian blur: a low-pass filter before the scorer.

::

    T(x) = x * G        G(u) ∝ exp(−|u|² / 2σ²) on size × size pixels,  σ = 0.3 ((size − 1)/2 − 1) + 0.8

Size 3 is the default of benchmarks of defended quality models; how size and σ belong together is OpenCV's rule. The
border is repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from iqarena.api import ODD, Purification

if TYPE_CHECKING:
    from torch import Tensor

    from iqarena.api import Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Gaussian(Purification):
    """Gaussian blur on an odd number of pixels; 1 changes nothing.

    size: side of the window in pixels
    """

    name = "gaussian"
    reconstructed = "the standard deviation that belongs to a size (OpenCV's rule) and the border (repeated)"

    size: Annotated[int, Ge(1), ODD] = 3

    def apply(self, x: Tensor, streams: Streams) -> Tensor:
        return blurred(x, self.size)


def blurred(x: Tensor, size: int) -> Tensor:
    """``x`` ``(N, 3, H, W)`` under a Gaussian of ``size`` pixels a side; the border is repeated."""
    import torch
    from torch.nn.functional import conv2d, pad

    radius = size // 2
    sigma = 0.3 * (radius - 1) + 0.8
    line = torch.exp(-(torch.arange(-radius, radius + 1, dtype=torch.float64) ** 2) / (2 * sigma**2))
    line = (line / line.sum()).to(x).expand(3, 1, 1, size)
    wide = pad(x, (radius,) * 4, mode="replicate")
    return conv2d(conv2d(wide, line, groups=3), line.mT, groups=3).clamp(0, 1)
