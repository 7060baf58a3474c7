"""``magnitude_topk`` — keep the pixels where a gradient is strongest.

    t ⊙ [‖t‖ ≥ q]

``‖t‖`` is the ℓ2 norm over the three channels, and ``q`` such that the share ``keep`` of the pixels stays; ties stay,
so that a perturbation of one strength everywhere is not changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval
from torch import Tensor

from iqarena.api import Filter, Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class MagnitudeTopk(Filter):
    """keep: share of the pixels that is kept"""

    name = "magnitude_topk"

    keep: Annotated[float, Interval(gt=0, le=1)] = 0.5

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        strength = t.square().sum(1, keepdim=True)
        pixels = strength.flatten(1)
        drop = pixels.shape[1] - max(1, round(self.keep * pixels.shape[1]))
        weakest_kept = pixels.kthvalue(drop + 1, dim=1).values.view(-1, 1, 1, 1)
        return t * (strength >= weakest_kept)
