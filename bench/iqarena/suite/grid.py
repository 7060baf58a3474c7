"""A factorial in a suite: ``[grid]`` names one attack and, per parameter, the values to cross.

[grid]
attack = "sega"                                  # its own values are the reference that levels compare with
gradient_filter = ["none", "fourier_topk(0.5)"]
mask = ["none", "jnd(6)"]
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from iqarena.api import Attack
from iqarena.api.spec import Call, Chain, parse
from iqarena.errors import SpecError
from iqarena.registry.tables import build, build_attack


@dataclass(frozen=True)
class Grid:
    """The reference and every combination, the last factor running fastest."""

    reference: Attack
    factors: tuple[str, ...]
    attacks: tuple[Attack, ...]


def expand(table: Mapping[str, Any]) -> Grid:
    """Read a suite's ``[grid]``; raises :class:`SpecError` for what cannot be crossed or has no reference level."""
    lists = {name: values for name, values in table.items() if name != "attack"}
    if not isinstance(table.get("attack"), str) or not lists:
        raise SpecError(
            '[grid]: expected attack = "…" and a list for each parameter to cross;'
            " see: python -m pydoc iqarena.suite.grid"
        )
    for name, values in lists.items():
        if not isinstance(values, list) or len(values) < 2:
            raise SpecError(f"[grid]: expected a list of at least two values for {name!r}, found {values!r}")
    reference = build_attack(table["attack"])
    own = parse(repr(reference)).single
    attacks = [_with(own, dict(zip(lists, values))) for values in itertools.product(*lists.values())]
    for name in lists:
        if getattr(reference, name) not in [getattr(attack, name) for attack in attacks]:
            raise SpecError(
                f"[grid]: the values of {name!r} lack that of the reference {reference.label},"
                f" {dict(own.kwargs)[name]}; add it"
            )
    return Grid(reference, tuple(lists), tuple(attacks))


def _with(call: Call, values: Mapping[str, Any]) -> Attack:
    """``call`` with other values of some parameters, given as TOML numbers or spec strings."""
    given = parse(f"{call.name}({', '.join(f'{name}={_text(value)}' for name, value in values.items())})").single
    kwargs = {**dict(call.kwargs), **dict(given.kwargs)}
    return cast(Attack, build("attack", Chain((Call(call.name, kwargs=tuple(kwargs.items())),))))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
