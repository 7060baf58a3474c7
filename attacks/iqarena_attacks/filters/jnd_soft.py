"""``jnd_soft`` — perturb in proportion to the just-noticeable difference, instead of by SEGA's binary M^JND.

    t ⊙ min(1, JND(x) / threshold)

JND is in grey levels (Liu et al. 2010), one map for the three channels; from ``threshold`` on a pixel has all of ``t``,
and none ever more, so that a budget is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Unit
from torch import Tensor

from iqarena.api import Filter, Streams
from iqarena.images.perception import jnd_map
from iqarena.images.tensors import maps


@dataclass(frozen=True, kw_only=True, repr=False)
class JndSoft(Filter):
    """threshold: just-noticeable difference from which on all is kept, in grey levels"""

    name = "jnd_soft"

    threshold: Annotated[float, Gt(0), Unit("grey levels")] = 12.0

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        return t * (maps(jnd_map, x) / self.threshold).clamp(max=1)
