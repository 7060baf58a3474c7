"""Median filter: the other squeezer of feature squeezing, strong against single outlying pixels.

Xu, Evans, Qi, *Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks*, NDSS 2018,
arXiv 1704.01155::

    T(x)_p = median of x over the size × size pixels around p, per channel

There with even sizes too and as a detector; here odd sizes, and the score of the filtered image is the score. The
border is repeated. The gradient goes to the pixel that is the median: it is exact wherever there are no ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from iqarena.api import ODD, Purification

if TYPE_CHECKING:
    from torch import Tensor

    from iqarena.api import Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Median(Purification):
    """Median of an odd number of pixels a side; 1 changes nothing.

    size: side of the window in pixels
    """

    name = "median"
    bibtex = """@inproceedings{xu2018feature,
  title = {Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks},
  author = {Xu, Weilin and Evans, David and Qi, Yanjun},
  booktitle = {NDSS},
  year = {2018}
}"""

    size: Annotated[int, Ge(1), ODD] = 3

    def apply(self, x: Tensor, streams: Streams) -> Tensor:
        from torch.nn.functional import pad

        wide = pad(x, (self.size // 2,) * 4, mode="replicate")
        if self.size == 3:
            return _median_of_nine(wide)
        return wide.unfold(2, self.size, 1).unfold(3, self.size, 1).flatten(4).median(-1).values


def _median_of_nine(wide: Tensor) -> Tensor:
    """The same for size 3, ten times faster: with the columns of each window sorted, the median is the middle one of
    the largest minimum, the middle middle and the smallest maximum."""
    columns = _sorted(wide[:, :, :-2], wide[:, :, 1:-1], wide[:, :, 2:])
    low, middle, high = (_sorted(one[..., :-2], one[..., 1:-1], one[..., 2:]) for one in columns)
    return _sorted(low[2], middle[1], high[0])[1]


def _sorted(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lowest, middle and highest of three, element by element."""
    low, high = a.minimum(b), a.maximum(b)
    return low.minimum(c), low.maximum(high.minimum(c)), high.maximum(c)
