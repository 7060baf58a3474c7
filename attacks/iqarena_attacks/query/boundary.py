"""The score boundary of arXiv 2401.05217 and its schedule.

With ``y`` the clean score, an image is past the boundary ``b`` when ``f(x') > y + (100 − y)·b`` (raising) or
``f(x') < y − y·b`` (lowering): when its gain, as a share of the headroom to the end of the scale, exceeds ``b``. The
boundary goes on by the step it last made. It gives way, by half of its step, after ``FAILURES`` directions in vain,
until the step is 1/400; and it jumps by half of the excess when a direction led far beyond it.
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
        """Halve the step; False when it has become too small to go on."""
        self.b = self.passed + self.step / 2
        return self.step > SMALLEST_STEP

    def reach(self, ratio: float) -> float:
        """Take note of an image at ``ratio > b``; returns the boundary that it must stay past."""
        if ratio > max(self.b + 2 * self.step, 0.005):
            self.b += (ratio - self.b) / 2
        return self.b

    def move_on(self) -> None:
        """The next boundary: as far from this one as this one was from the last."""
        self.b, self.passed = self.b + self.step, self.b
