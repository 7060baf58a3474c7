"""Unsharp masking: what a blur would take away is added once more.

The photographer's sharpening, in benchmarks of defended quality models beside the blurs (it undoes an attack that
blurs, and strengthens one that adds detail)::

    T(x) = clip(x + amount (x − x * G))

with the Gaussian of ``gaussian(size)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from iqarena.api import ODD, Purification
from iqarena_models.defenses.gaussian import blurred

if TYPE_CHECKING:
    from torch import Tensor

    from iqarena.api import Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Unsharp(Purification):
    """The difference to a Gaussian blur added ``amount`` times; 0 changes nothing.

    amount: how many times the difference is added
    size: side of the Gaussian in pixels
    """

    name = "unsharp"
    reconstructed = "the defaults, and the Gaussian of OpenCV's rule"

    amount: Annotated[float, Ge(0)] = 1.0
    size: Annotated[int, Ge(1), ODD] = 3

    def apply(self, x: Tensor, streams: Streams) -> Tensor:
        return (x + self.amount * (x - blurred(x, self.size))).clamp(0, 1)
