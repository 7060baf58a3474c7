"""JSON → frozen dataclasses, strictly: every unknown, missing or mistyped key is named."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from iqarena.errors import nearest


def from_json(hint: Any, value: Any, key: str) -> Any:
    """``value``, as a JSON parser gives it, as an instance of ``hint``; ``key`` is where it stands, empty at the top.

    ``hint`` is a dataclass, ``tuple[X, ...]``, ``dict[str, X]``, ``X | Y | None``, ``Literal``, a scalar or ``Any``.
    Fields with a default may be missing. Raises :class:`ValueError` naming the key.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        *others, last = (one for one in arguments if one is not NoneType)
        for other in others:
            with suppress(ValueError):
                return from_json(other, value, key)
        return from_json(last, value, key)
    if origin is Literal:
        if value in arguments:
            return value
        raise ValueError(f"expected {' or '.join(map(repr, arguments))} for {key!r}, found {value!r:.60}")
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return _fields(hint, value, key)
    if origin is tuple and isinstance(value, list):
        return tuple(from_json(arguments[0], one, f"{key}[{i}]") for i, one in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {name: from_json(arguments[1], one, f"{key}[{name!r}]") for name, one in value.items()}
    if hint is float and type(value) is int:
        with suppress(OverflowError):
            return float(value)
    if type(value) is hint:
        return value
    raise ValueError(
        f"expected {_KINDS.get(hint, _KINDS.get(origin, 'an object'))} for {key or 'the file'!r}, found {value!r:.60}"
    )


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """``object_pairs_hook`` of a JSON parser, which would keep one of two equal keys; raises :class:`ValueError`."""
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise ValueError(f"key {name!r} twice")
    return dict(pairs)


_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list"}


_hints = cache(get_type_hints)  # which evaluates every annotation anew


def _fields(cls: Any, value: Mapping[str, Any], key: str) -> Any:
    hints, fields = _hints(cls), {f.name: f for f in dataclasses.fields(cls)}
    inside = f"{key}." if key else ""
    for name in value:
        if name not in fields:
            raise ValueError(f"unknown key {inside + name!r}{nearest(name, fields)}")
    for name, one in fields.items():
        optional = one.default is not dataclasses.MISSING or one.default_factory is not dataclasses.MISSING
        if name not in value and not optional:
            raise ValueError(f"missing key {inside + name!r}")
    return cls(**{name: from_json(hints[name], one, inside + name) for name, one in value.items()})
