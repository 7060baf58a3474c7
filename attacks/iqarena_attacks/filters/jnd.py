"""``jnd`` — perturb only where the just-noticeable difference is large (SEGA's M^JND).

    t ⊙ [JND(x) ≥ threshold]

JND is in grey levels (Liu et al. 2010), one map for the three channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Unit
from torch import Tensor

from iqarena.api import Filter, Streams
from iqarena.images.perception import jnd_map
from iqarena.images.tensors import maps


@dataclass(frozen=True, kw_only=True, repr=False)
class Jnd(Filter):
    """threshold: least just-noticeable difference of a pixel that is kept, in grey levels"""

    name = "jnd"

    threshold: Annotated[float, Ge(0), Unit("grey levels")] = 6.0

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        return t * (maps(jnd_map, x) >= self.threshold)
