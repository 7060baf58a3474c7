"""A crop from a random place, enlarged to the size of the image.

Guo, Rana, Cissé, van der Maaten, *Countering Adversarial Images using Input Transformations*, ICLR 2018,
arXiv 1711.00117 (image cropping-rescaling)::

    T(x) = enlarge(x[top : top + keep·H, left : left + keep·W])        top, left uniform

There the predictions of 30 crops are averaged; here one crop is scored, drawn with the image's own pixels as the seed
(see ``RandomPurification``). Enlarged bilinearly.
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
class RandomCrop(RandomPurification):
    """A random crop of the share ``keep`` of either side, enlarged; 1 changes nothing.

    keep: share of either side that is kept
    """

    name = "random_crop"
    reconstructed = "one crop is scored where the paper averages 30; the share that is kept"

    keep: Annotated[float, Interval(gt=0, le=1)] = 0.9

    def apply(self, x: Tensor, streams: Streams) -> Tensor:
        import torch
        from torch.nn.functional import interpolate

        height, width = (max(1, round(self.keep * side)) for side in x.shape[-2:])
        headroom = torch.tensor([x.shape[-2] - height + 1, x.shape[-1] - width + 1])
        places = (streams.uniform(x[:, 0, 0, :1].expand(-1, 2)).cpu() * headroom).long().tolist()
        crops = [one[:, top : top + height, left : left + width] for one, (top, left) in zip(x, places, strict=True)]
        return interpolate(torch.stack(crops), x.shape[-2:], mode="bilinear").clamp(0, 1)
