"""``none`` — no filter."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from iqarena.api import Filter, Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class NoFilter(Filter):
    name = "none"

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        return t
