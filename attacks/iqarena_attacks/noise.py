"""Noise — random signs: what a perturbation of this size does to a score when it knows nothing.

    x' = x + eps · r ⊙ mask,   r ∈ {−1, +1} independent for every pixel and channel

``mask`` takes the filter of a masked attack, for a control with the same support.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from iqarena.api import Attack, Filter, Source, Streams
from iqarena_attacks.filters.none import NoFilter


@dataclass(frozen=True, kw_only=True, repr=False)
class Noise(Attack):
    """mask: filter of the perturbation"""

    name = "noise"
    access = "none"
    floor = True

    mask: Filter = NoFilter()  # noqa: RUF009 (frozen)

    @property
    def stochastic(self) -> bool:
        return True

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        return x + self.mask(self.eps * streams.shared("noise").signs(x), x, streams)
