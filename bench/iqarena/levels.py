"""Budgets at which attacks leave the same mean SSIM: the search behind a suite's ``ssim`` key.

A mask buys invisibility with strength, so attacks are also compared where their pictures are equally close to the
clean ones. Pictures have 8 bits, so budgets are searched in whole grey levels: every level that is tried is an ordinary
attack of the run, and each attack ends with two neighbouring levels around the wanted SSIM.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

from iqarena.api import Attack
from iqarena.errors import SpecError
from iqarena.plan import HELD_OUT, Plan
from iqarena.store import Store

MOST = 64  # grey levels; an attack that is not as visible as wanted by then is left out
_POWER = 1.5  # for a guess: 1 - SSIM grows about as the budget to this power


def rounds(plan: Plan, store: Store) -> Iterator[Plan]:
    """``plan`` and, while the rows of the last round ask for more budgets, the same plan with those added."""
    wanted = plan.suite.ssim
    for attack in plan.attacks if wanted else ():
        if attack.eps > 0 and level_of(attack.eps) is None:
            raise SpecError(f"ssim: expected budgets of whole grey levels such as eps=8/255, found {attack.label}")
    yield plan
    while wanted and (more := _asked_for(plan, store, wanted)):
        plan = dataclasses.replace(plan, attacks=(*plan.attacks, *more))
        yield plan


def level_of(eps: float) -> int | None:
    """A budget in grey levels, if it is a whole number of them above 0."""
    level = round(eps * 255)
    return level if level > 0 and abs(eps * 255 - level) < 1e-6 else None


def next_level(seen: Mapping[int, float], wanted: float) -> int | None:
    """The level to try after those ``seen`` (level → mean SSIM); none when ``wanted`` is bracketed or out of reach."""
    above = max((level for level, ssim in seen.items() if ssim >= wanted), default=0)
    below = min((level for level, ssim in seen.items() if ssim < wanted), default=MOST + 1)
    if not seen or below - above <= 1:
        return None
    power, near = _POWER, min(seen, key=lambda level: abs(seen[level] - wanted))
    if above in seen and below in seen and seen[above] < 1:
        power = math.log((1 - seen[below]) / (1 - seen[above])) / math.log(below / above)
    guess = near * ((1 - wanted) / (1 - seen[near])) ** (1 / power) if seen[near] < 1 else MOST
    return min(max(round(guess), above + 1), below - 1)


def bracket(seen: Mapping[int, float], wanted: float) -> tuple[int, int] | None:
    """The neighbouring levels whose mean SSIM lies on either side of ``wanted``, if both were seen."""
    neighbours = ((level, level + 1) for level in sorted(seen) if level + 1 in seen)
    return next(((low, high) for low, high in neighbours if seen[low] >= wanted > seen[high]), None)


def _asked_for(plan: Plan, store: Store, wanted: float) -> list[Attack]:
    rows = store.rows()
    ssim = rows[rows["relation"].isin(HELD_OUT)].groupby("attack")["ssim"].mean().dropna()
    seen: dict[Attack, dict[int, float]] = {}
    for attack in plan.attacks:
        level = level_of(attack.eps)
        if level and repr(attack) in ssim:
            seen.setdefault(dataclasses.replace(attack, eps=1 / 255), {})[level] = ssim[repr(attack)]
    more = [(attack, next_level(levels, wanted)) for attack, levels in seen.items()]
    return [dataclasses.replace(attack, eps=level / 255) for attack, level in more if level]
