"""The effects of an attack on a target, as columns: the one place that names and computes them.

Rows hold a column ``name``, pairs its mean and median over images with intervals, and boards the mean over pairs of the
one effect that decides ranks, :data:`RANKED`.
"""

from __future__ import annotations

from dataclasses import dataclass

from iqarena.metrics.score_change import directed_effect, gain
from iqarena.metrics.statistics import Floats


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


GAIN = Effect(
    "gain", "Gain", "points",
    "mean score change in the wanted direction, in points of the 0–100 scale; noise counts here.",
)  # fmt: skip
DIRECTED = Effect("directed", "Directed effect", "points", "s · (f(x + δ) − f(x − δ)) / 2 in points")
DIRECTED_SD = Effect(
    "directed_sd", "Directed effect", "target std. dev.",
    "s · (f(x + δ) − f(x − δ)) / 2 in standard deviations of the target's clean scores: how far the perturbation moves "
    "the target in the wanted direction, beyond what its sign-flipped control does. Undirected noise has about 0. Mean "
    "over pairs, with a 95 % bootstrap interval over images.",
)  # fmt: skip
EFFECTS = (GAIN, DIRECTED, DIRECTED_SD)
RANKED = DIRECTED_SD  # decides ranks


def effects(
    clean: Floats, attacked: Floats, control: Floats, direction: Floats, deviation: Floats
) -> dict[str, Floats]:
    """All :data:`EFFECTS` by name, each ``(N,)``, of scores ``(N,)``; ``deviation`` is of the target's clean scores."""
    directed = directed_effect(attacked, control, direction)
    return {
        GAIN.name: gain(clean, attacked, direction),
        DIRECTED.name: directed,
        DIRECTED_SD.name: directed / deviation,
    }
