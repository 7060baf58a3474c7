"""``jnd`` — perturb only where the just-noticeable difference is large (SEGA's M^JND).

    t ⊙ [JND(x) ≥ threshold]

JND is in grey levels (Liu et al. 2010), one map for the three channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from iqarena.api import Filter, SpecError, Streams
from iqarena.images.perception import jnd_map
from iqarena_attacks.filters._maps import maps


@dataclass(frozen=True, kw_only=True, repr=False)
class Jnd(Filter):
    name = "jnd"

    threshold: float = 6.0

    def __post_init__(self) -> None:
        if self.threshold < 0:
            raise SpecError(f"{self.name}: expected threshold ≥ 0 grey levels, found {self.threshold}")

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        return t * (maps(jnd_map, x) >= self.threshold)
