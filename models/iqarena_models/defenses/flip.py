"""The image mirrored left to right, or not, as a coin falls.

A random input transformation in the sense of Xie, Wang, Zhang, Ren, Yuille, *Mitigating Adversarial Effects Through
Randomization*, ICLR 2018, arXiv 1711.01991 (who resize and pad)::

    T(x) = mirror(x) with probability p, else x

The coin is seeded with the image's own pixels (see ``RandomPurification``). With ``p = 1`` nothing is random but the
name, and every image is mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Interval

from iqarena.api import RandomPurification

if TYPE_CHECKING:
    from torch import Tensor

    from iqarena.api import Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Flip(RandomPurification):
    """Mirrored left to right with probability ``p``.

    p: probability
    """

    name = "flip"

    p: Annotated[float, Interval(ge=0, le=1)] = 0.5

    def apply(self, x: Tensor, streams: Streams) -> Tensor:
        coin = streams.uniform(x[:, :1, :1, :1])
        return x.flip(-1).where(coin < self.p, x)
