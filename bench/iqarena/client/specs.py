"""Suites whose keys hold objects: scorers, attacks and plugins, as the specs that lead back to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iqarena.errors import SpecError

_KINDS = {"targets": "model", "sources": "model", "attacks": "attack", "reference": "attack"}  # by the suite's key


def as_specs(keys: Mapping[str, Any]) -> dict[str, Any]:
    """``keys`` of a suite with every object among targets, sources and attacks as its spec.

    Raises :class:`SpecError` for an object that no spec leads back to: its rows could not be kept under its code.
    """
    specs = dict(keys)
    for key, kind in _KINDS.items():
        value = specs.get(key)
        if isinstance(value, (list, tuple)):
            specs[key] = [_spec(key, kind, one) for one in value]
        elif value is not None:
            specs[key] = _spec(key, kind, value)
    return specs


def _spec(key: str, kind: str, value: Any) -> Any:
    if isinstance(value, str):
        return value
    from iqarena.api import Plugin
    from iqarena.client.attack import BoundAttack
    from iqarena.client.scorer import Scorer
    from iqarena.registry.tables import KINDS, build

    plugin = value.engine.model if isinstance(value, Scorer) else value
    plugin = plugin.attack if isinstance(plugin, BoundAttack) else plugin
    if not isinstance(plugin, Plugin) and not callable(plugin):
        return value  # the suite says what it expects
    if isinstance(plugin, Plugin) and isinstance(plugin, KINDS[kind]):
        try:
            if build(kind, repr(plugin)) == plugin:
                return repr(plugin)
        except SpecError:
            pass
    given = repr(plugin) if isinstance(plugin, Plugin) else getattr(plugin, "__name__", type(plugin).__name__)
    raise SpecError(
        f"{key}: expected a registered {kind}, found {given}; rows are kept under the source of a plugin: write it as a"
        f" {KINDS[kind].__name__} into a file and register that with iqarena.testing.add_file(path)"
    )
