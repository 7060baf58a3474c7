"""``saliency`` — perturb only what draws the eye, by the spectral residual (Hou and Zhang, CVPR 2007).

    t ⊙ [saliency(x) > threshold]

Saliency lies between 0 and 1, one map for the three channels. The default is the threshold of the score-boundary attack
(arXiv 2401.05217), which adds such pixels to those at edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval
from torch import Tensor

from iqarena.api import Filter, Streams
from iqarena.images.perception import saliency_map
from iqarena.images.tensors import maps


@dataclass(frozen=True, kw_only=True, repr=False)
class Saliency(Filter):
    """threshold: saliency that a kept pixel exceeds"""

    name = "saliency"

    threshold: Annotated[float, Interval(ge=0, lt=1)] = 0.225

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        return t * (maps(saliency_map, x) > self.threshold)
