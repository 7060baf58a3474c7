"""``jnd`` — perturb only where the just-noticeable difference is large (SEGA's M^JND).

    t ⊙ [JND(x) ≥ threshold]

JND is in grey levels (Liu et al. 2010), one map for the three channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from iqarena.api import Filter, SpecError
from iqarena.perception import jnd_map
from iqarena.seeding import Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Jnd(Filter):
    name = "jnd"

    threshold: float = 6.0

    def __post_init__(self) -> None:
        if self.threshold < 0:
            raise SpecError(f"{self.name}: expected threshold ≥ 0 grey levels, found {self.threshold}")

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        pictures = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        maps = np.stack([jnd_map(np.ascontiguousarray(picture)) for picture in pictures])
        return t * torch.from_numpy(maps >= self.threshold)[:, None].to(t)
