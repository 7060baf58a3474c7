"""The score boundary of arXiv 2401.05217 and its schedule.

With ``y`` the clean score, an image is past the boundary ``b`` when ``f(x') > y + (100 − y)·b`` (raising) or
``f(x') < y − y·b`` (lowering): when its gain, as a share of the headroom to the end of the scale, exceeds ``b``. The
boundary goes on by the step it last made. It gives way, by half of its step, after ``FAILURES`` directions in vain;
with a step of 1/400 or less, after which it is not halved again, the image is given up. When a direction led beyond
``sup = max(b + 2·step, 0.005)``, the boundary moves half of the way to ``sup``. All as in the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST, SMALLEST_STEP, FAILURES = 0.01, 1 / 400, 200


@dataclass
class Boundary:
    """``b``, and the last one that was passed."""

    b: float = FIRST
    passed: float = 0.0

    @property
    def step(self) -> float:
        return self.b - self.passed

    def ease(self) -> bool:
        """Halve the step; False when it is too small for that."""
        if self.step <= SMALLEST_STEP + 1e-9:
            return False
        self.b = self.passed + self.step / 2
        return True

    def reach(self, ratio: float) -> float:
        """Take note of an image at ``ratio > b``; returns the boundary that it must stay past."""
        sup = max(self.b + 2 * self.step, 0.005)
        if ratio > sup:
            self.b += (sup - self.b) / 2
        return self.b

    def move_on(self) -> None:
        """The next boundary: as far from this one as this one was from the last."""
        self.b, self.passed = self.b + self.step, self.b
