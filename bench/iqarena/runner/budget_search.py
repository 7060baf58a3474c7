"""Budgets at which attacks leave the same mean SSIM: the search behind a suite's ``ssim`` key.

A mask buys invisibility with strength, so attacks are also compared where their images are equally close to the
clean ones. Images have 8 bits, so budgets are searched in whole grey levels: every level that is tried is an ordinary
attack of the run, and each attack ends with two neighbouring levels around the wanted SSIM.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from iqarena.api import Attack
from iqarena.errors import SpecError
from iqarena.store.folder import Store
from iqarena.suite.levels import level_of, next_level
from iqarena.suite.plan import Plan
from iqarena.suite.relations import HELD_OUT


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
