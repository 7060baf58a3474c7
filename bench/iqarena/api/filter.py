"""The contract of a filter, and chains of filters."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iqarena.api.plugin import Plugin

if TYPE_CHECKING:
    from torch import Tensor

    from iqarena.api.streams import Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Filter(Plugin):
    """A mask on a gradient or a perturbation ``t`` ``(N, 3, H, W)``, given the clean images ``x``."""

    @property
    def stochastic(self) -> bool:
        """Whether the result depends on the random streams."""
        return False

    @abstractmethod
    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        """Return the filtered ``t``, same shape; images are independent."""


@dataclass(frozen=True, kw_only=True, repr=False)
class FilterChain(Filter):
    """Filters applied left to right, written ``jnd(threshold=6)|fourier_topk(keep=0.5)``."""

    filters: tuple[Filter, ...] = ()

    def __repr__(self) -> str:
        return "|".join(map(repr, self.filters))

    @property
    def label(self) -> str:
        return "|".join(one.label for one in self.filters)

    @property
    def stochastic(self) -> bool:
        return any(one.stochastic for one in self.filters)

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        for one in self.filters:
            t = one(t, x, streams)
        return t
