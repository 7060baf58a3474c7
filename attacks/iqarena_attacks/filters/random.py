"""``random`` — keep a random share of the pixels: the control for any mask of that density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval
from torch import Tensor

from iqarena.api import Filter, Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Random(Filter):
    """keep: share of the pixels that is kept
    seed: of the choice of pixels; a gradient filter and a mask of one seed keep the same
    """

    name = "random"

    keep: Annotated[float, Interval(gt=0, le=1)] = 0.5
    seed: int = 0

    @property
    def stochastic(self) -> bool:
        return self.keep < 1

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        return t * (streams.shared(f"random filter {self.seed}").uniform(t[:, :1]) < self.keep)
