"""Fewer bits per channel: one of the two squeezers of feature squeezing.

Xu, Evans, Qi, *Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks*, NDSS 2018,
arXiv 1704.01155::

    T(x) = round((2^bits − 1) x) / (2^bits − 1)

There it detects attacks by comparing predictions; here the score of the squeezed image is the score. 4 bits are 16
levels a channel. Rounding has no gradient: a white-box attack is given a straight-through one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Interval

from iqarena.api import Purification

if TYPE_CHECKING:
    from torch import Tensor

    from iqarena.api import Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class BitDepth(Purification):
    """Each channel rounded to ``2^bits`` levels; 8 leave an 8-bit image as it is.

    bits: of a channel
    """

    name = "bit_depth"
    differentiable = False
    bibtex = """@inproceedings{xu2018feature,
  title = {Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks},
  author = {Xu, Weilin and Evans, David and Qi, Yanjun},
  booktitle = {NDSS},
  year = {2018}
}"""

    bits: Annotated[int, Interval(ge=1, le=8)] = 4

    def apply(self, x: Tensor, streams: Streams) -> Tensor:
        levels = 2**self.bits - 1
        return (levels * x).round() / levels
