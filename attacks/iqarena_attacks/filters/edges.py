"""``edges`` — perturb only on and beside edges of the luma (Canny 50, 150, one pixel wider).

    t ⊙ [x at an edge]

One map for all channels; arXiv 2401.05217 takes the colour image's edges. An image without edges is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from iqarena.api import Filter, Streams
from iqarena.images.perception import edge_mask
from iqarena.images.tensors import maps


@dataclass(frozen=True, kw_only=True, repr=False)
class Edges(Filter):
    name = "edges"

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        return t * maps(edge_mask, x)
