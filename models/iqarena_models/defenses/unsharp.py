"""Unsharp masking: what a blur would take away is added once more.

The photographer's sharpening, in benchmarks of defended quality models beside the blurs (it undoes an attack that
blurs, and strengthens one that adds detail)::

    T(x) = clip(x + amount (x − x * G))

with the Gaussian of ``gaussian(size)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iqarena.api import Purification, SpecError
from iqarena_models.defenses.gaussian import blurred

if TYPE_CHECKING:
    from torch import Tensor

    from iqarena.api import Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Unsharp(Purification):
    """The difference to a Gaussian blur added ``amount`` times; 0 changes nothing."""

    name = "unsharp"
    reconstructed = "the defaults, and the Gaussian of OpenCV's rule"

    amount: float = 1.0
    size: int = 3

    def __post_init__(self) -> None:
        if self.amount < 0:
            raise SpecError(f"unsharp: expected an amount ≥ 0, found {self.amount:g}")
        if self.size < 1 or self.size % 2 == 0:
            raise SpecError(f"unsharp: expected an odd size, found {self.size}; nearest: {abs(self.size) // 2 * 2 + 1}")

    def apply(self, x: Tensor, streams: Streams) -> Tensor:
        return (x + self.amount * (x - blurred(x, self.size))).clamp(0, 1)
