"""``random`` — keep a random share of the pixels: the control for any mask of that density.

Filters of one ``seed`` keep the same pixels of a picture: a gradient filter and a mask need two to be independent.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from iqarena.api import Filter, SpecError, Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Random(Filter):
    name = "random"

    keep: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise SpecError(f"{self.name}: expected keep in (0, 1], found {self.keep}")

    @property
    def stochastic(self) -> bool:
        return self.keep < 1

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        return t * (streams.shared(f"random filter {self.seed}").uniform(t[:, :1]) < self.keep)
