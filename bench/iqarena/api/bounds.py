"""Bounds of parameters as data: stated in a field's type, checked for every plugin, shown by ``iqarena describe``.

``steps: Annotated[int, Ge(1)] = 10`` with the words of ``annotated_types``: ``Ge Gt Le Lt Interval Unit``, and ``ODD``
and ``EVEN`` from here.
"""

from __future__ import annotations

import dataclasses
import operator
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from annotated_types import BaseMetadata, Ge, GroupedMetadata, Gt, Le, Lt, Unit

from iqarena.api.spec import format_number
from iqarena.errors import SpecError

_HOLDS = {Gt: operator.gt, Ge: operator.ge, Lt: operator.lt, Le: operator.le}
_SIGNS = {Gt: ">", Ge: "≥", Lt: "<", Le: "≤"}


@dataclass(frozen=True)
class Parity(BaseMetadata):
    """Whether a whole number is odd or even."""

    word: Literal["odd", "even"]


ODD, EVEN = Parity("odd"), Parity("even")


@dataclass(frozen=True)
class Bounds:
    """What a number must keep to, its unit, and the words that may stand instead of one."""

    rules: tuple[Any, ...]
    words: tuple[str, ...] = ()

    def hold(self, value: float) -> bool:
        limits = all(_HOLDS[type(r)](value, _limit(r)) for r in self.rules if type(r) in _HOLDS)
        return limits and all(value % 2 == (r == ODD) for r in self.rules if isinstance(r, Parity))

    def text(self, name: str = "") -> str:
        """``an odd size ≥ 3``, ``eps in [0, 1] (write 8/255)``, ``sigma ≥ 0 or auto``."""
        parity = [f"an {r.word}" for r in self.rules if isinstance(r, Parity)]
        units = [r.unit for r in self.rules if isinstance(r, Unit)]
        limits = [r for r in self.rules if type(r) in _HOLDS]
        if len(limits) == 2:
            left, right = "[" if type(limits[0]) is Ge else "(", "]" if type(limits[1]) is Le else ")"
            interval = f"in {left}{_number(limits[0])}, {_number(limits[1])}{right}"
        else:
            interval = "".join(f"{_SIGNS[type(r)]} {_number(r)}" for r in limits)
        return " or ".join([" ".join(filter(None, [*parity, name, interval, *units])), *self.words])


def check_bounds(plugin: Any) -> None:
    """Raise :class:`SpecError` for a number outside the bounds that its field states."""
    for name, bounds in bounds_of(type(plugin)).items():
        value = getattr(plugin, name)
        if isinstance(value, float | int) and not bounds.hold(value):
            least = max((_limit(rule) for rule in bounds.rules if isinstance(rule, Ge)), default=1)
            nearest = f"; nearest: {max(least | 1, int(value) // 2 * 2 + 1)}" if ODD in bounds.rules else ""
            raise SpecError(f"{plugin.name}: expected {bounds.text(name)}, found {format_number(value)}{nearest}")


@cache
def bounds_of(cls: type) -> dict[str, Bounds]:
    """The bounds of the parameters that state any; a subclass that changes a default need not state them again."""
    stated: dict[str, Bounds] = {}
    for base in reversed(cls.__mro__):
        try:
            hints = typing.get_type_hints(base, include_extras=True)
        except NameError:  # a name that only a type checker knows: a plugin that is not built from specs
            continue
        stated |= {name: Bounds(rules, _words(hint)) for name, hint in hints.items() if (rules := tuple(_rules(hint)))}
    return stated


def _rules(hint: Any) -> Iterator[Any]:
    if typing.get_origin(hint) is Annotated:
        for rule in hint.__metadata__:
            yield from rule if isinstance(rule, GroupedMetadata) else (rule,)
    else:
        for option in typing.get_args(hint):
            yield from _rules(option)


def _words(hint: Any) -> tuple[str, ...]:
    """``none`` and the literal words in a union with the number."""
    options = () if typing.get_origin(hint) is Annotated else typing.get_args(hint)
    literals = [word for option in options if typing.get_origin(option) is Literal for word in typing.get_args(option)]
    return (*literals, *(["none"] if type(None) in options else []))


def _limit(rule: Any) -> Any:
    return dataclasses.astuple(rule)[0]


def _number(rule: Any) -> str:
    return format_number(_limit(rule))
