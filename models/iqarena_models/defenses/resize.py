"""The image made smaller and enlarged again: what is finer than the small one is gone.

Guo, Rana, Cissé, van der Maaten, *Countering Adversarial Images using Input Transformations*, ICLR 2018,
arXiv 1711.00117, study rescaling among simple transformations of the image::

    T(x) = enlarge(reduce(x, factor))

Both ways bilinear, the reduction antialiased; the factor 0.5 is the default of benchmarks of defended quality models,
the interpolation is ours.
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
class Resize(Purification):
    """Both sides times ``factor``, and back; 1 changes nothing.

    factor: of either side
    """

    name = "resize"
    reconstructed = "the interpolation (bilinear, antialiased on the way down)"

    factor: Annotated[float, Interval(gt=0, le=1)] = 0.5

    def apply(self, x: Tensor, streams: Streams) -> Tensor:
        from torch.nn.functional import interpolate

        small = [max(1, round(self.factor * side)) for side in x.shape[-2:]]
        reduced = interpolate(x, small, mode="bilinear", antialias=True)
        return interpolate(reduced, x.shape[-2:], mode="bilinear").clamp(0, 1)
