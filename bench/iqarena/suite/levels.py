"""Budgets in whole grey levels, and which level to try next on the way to a wanted SSIM."""

from __future__ import annotations

import math
from collections.abc import Mapping

MAX_LEVELS = 64  # grey levels; an attack that is not as visible as wanted by then is left out
_POWER = 1.5  # for a guess: 1 - SSIM grows about as the budget to this power


def level_of(eps: float) -> int | None:
    """A budget in grey levels, if it is a whole number of them above 0."""
    level = round(eps * 255)
    return level if level > 0 and abs(eps * 255 - level) < 1e-6 else None


def next_level(seen: Mapping[int, float], wanted: float) -> int | None:
    """The level to try after those ``seen`` (level → mean SSIM); none when ``wanted`` is bracketed or out of reach."""
    below = min((level for level, ssim in seen.items() if ssim < wanted), default=MAX_LEVELS + 1)
    above = max((level for level, ssim in seen.items() if ssim >= wanted and level < below), default=0)
    if not seen or below - above <= 1:
        return None
    power, near = _POWER, min(seen, key=lambda level: abs(seen[level] - wanted))
    if above in seen and below in seen and seen[above] < 1:
        power = math.log((1 - seen[below]) / (1 - seen[above])) / math.log(below / above)
    guess = near * ((1 - wanted) / (1 - seen[near])) ** (1 / power) if seen[near] < 1 else MAX_LEVELS
    return min(max(round(guess), above + 1), below - 1)


def bracket(seen: Mapping[int, float], wanted: float) -> tuple[int, int] | None:
    """The neighbouring levels whose mean SSIM lies on either side of ``wanted``, if both were seen."""
    neighbours = ((level, level + 1) for level in sorted(seen) if level + 1 in seen)
    return next(((low, high) for low, high in neighbours if seen[low] >= wanted > seen[high]), None)
