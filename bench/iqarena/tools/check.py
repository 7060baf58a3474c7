"""Conformance of plugins by name, spec or file: what :mod:`iqarena.testing` proves, one check at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

from iqarena.api import Attack, Defense, Filter, Model, Plugin
from iqarena.api.spec import parse
from iqarena.errors import IqarenaError, SpecError, nearest
from iqarena.registry.tables import KINDS, add_file, build, build_model, names
from iqarena.testing import Check, check_attack, check_defense, check_filter, check_model


def plugins(text: str) -> list[tuple[str, Plugin]]:
    """(kind, plugin) of all that ``text`` stands for: a Python file with plugins, or a name or spec.

    Raises :class:`IqarenaError` for an unknown name (with the nearest), for a file without plugins, and for a plugin
    that has parameters without a default and is not given them.
    """
    if text.endswith(".py"):
        return [(kind, build(kind, name)) for kind, name in add_file(Path(text))]
    name = parse(text).calls[-1].name
    kinds = [kind for kind in KINDS if name in names(kind)]
    if not kinds:
        everything = [one for kind in KINDS for one in names(kind)]
        raise SpecError(
            f"unknown plugin {name!r}{nearest(name, everything)}; see: iqarena list, or give a file, own.py"
        )
    return [(kind, build(kind, text)) for kind in kinds]


def checks(kind: str, plugin: Plugin, model: str) -> Iterator[Check]:
    """Named checks; a defense stands in front of the scorer ``model``.

    Raises :class:`IqarenaError` for a kind that has none.
    """
    if kind == "attack":
        return check_attack(cast(Attack, plugin))
    if kind == "filter":
        return check_filter(cast(Filter, plugin))
    if kind == "model":
        return check_model(cast(Model, plugin))
    if kind == "defense":
        return check_defense(cast(Defense, plugin), build_model(model))
    raise IqarenaError(
        f"{plugin!r}: expected an attack, a filter, a model or a defense, found an image set;"
        f" see: iqarena fetch data {plugin.name} --verify"
    )


def examine(kind: str, plugin: Plugin, model: str) -> Iterator[tuple[bool, str]]:
    """(passed, line) for every check."""
    for name, check in checks(kind, plugin, model):
        try:
            check()
        except (Exception, SystemExit) as error:  # a plugin may fail in any way
            what = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            yield False, f"{name}: {' '.join(what.split())}"
        else:
            yield True, name
