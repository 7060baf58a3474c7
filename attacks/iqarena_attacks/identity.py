"""Identity — the untouched image: the floor of every table."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from iqarena.api import Attack, Source, Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Identity(Attack):
    name = "identity"
    access = "none"
    floor = True

    eps: float = 0.0

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        return x.clone()
