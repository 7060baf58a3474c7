"""The effects of an attack on a target, as columns: the one place that names and computes them.

Rows hold a column ``name``; pairs its mean and median over images with intervals, and its means over the images whose
score was to rise and to fall; boards the mean over pairs. One effect decides ranks, :data:`RANKED`.
"""

from __future__ import annotations

from dataclasses import dataclass

from iqarena.metrics.score_change import aligned_effect, directed_effect, gain
from iqarena.metrics.statistics import Floats

WAYS = {"raise": 1, "lower": -1}  # the wanted directions


@dataclass(frozen=True)
class Effect:
    """``title`` heads its column in tables; ``meaning`` explains it there; ``unit`` is for the axes of figures."""

    name: str
    title: str
    unit: str
    meaning: str

    @property
    def mean(self) -> str:
        """Its column in the table of pairs."""
        return f"{self.name}_mean"

    @property
    def axis(self) -> str:
        return f"{self.title.lower()} ({self.unit})"


ALIGNED_SD = Effect(
    "aligned_sd", "Aligned effect", "target std. dev.",
    "s · (f(x + δ) − f(x + δ')) in standard deviations of the target's clean scores, a fixed unit: how much further "
    "the perturbation moves the target in the wanted direction s than its displaced control δ', which has the same "
    "amplitude at every pixel and the signs of half an image away. What does not fit the image has about 0. Mean over "
    "pairs, with a 95 % bootstrap interval over images.",
)  # fmt: skip
GAIN = Effect(
    "gain", "Gain", "points",
    "mean score change in the wanted direction, in points of the 0–100 scale; noise counts here.",
)  # fmt: skip
DIRECTED_SD = Effect(
    "directed_sd", "Directed", "target std. dev.",
    "s · (f(x + δ) − f(x − δ)) / 2 in the same unit: the odd part of the change. Whatever both signs do, and iterated "
    "attacks use that, is not in it; it explains and does not rank.",
)  # fmt: skip
EFFECTS = (ALIGNED_SD, GAIN, DIRECTED_SD)
RANKED = ALIGNED_SD  # decides ranks


def effects(
    clean: Floats, attacked: Floats, displaced: Floats, mirrored: Floats | None, direction: Floats, deviation: Floats
) -> dict[str, Floats]:
    """:data:`EFFECTS` by name, each ``(N,)``, of scores ``(N,)``; ``deviation`` is of the target's clean scores.

    Without scores of the ``mirrored`` image there is no directed effect.
    """
    values = {
        ALIGNED_SD.name: aligned_effect(attacked, displaced, direction) / deviation,
        GAIN.name: gain(clean, attacked, direction),
    }
    if mirrored is not None:
        values[DIRECTED_SD.name] = directed_effect(attacked, mirrored, direction) / deviation
    return values
