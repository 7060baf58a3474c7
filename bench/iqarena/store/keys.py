"""What decides a number, as data: the keys that rows and adversarial images are stored and found under.

A craft key names an adversarial image, a row key one score of it: the craft key and a target. Opinion scores and
clusters are not in them: no score depends on them, and a corrected opinion score must not cost a model evaluation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from iqarena.api import Attack, Model, Plugin
from iqarena.files.hashing import json_digest

SCHEMA = 2  # raised when rows of an older version can no longer be mixed with new ones
_PLAIN = [1, "", "", {}]  # version 1, comes with iqarena


class Keys:
    """The keys of one run; ``setting`` is (kind of device, precision).

    ``identity`` is what :func:`identity` says the first time: versions, code and weights are read once.

    Batch size, order and shard are in no key.
    """

    def __init__(self, direction: str, seed: int, setting: tuple[str, str]) -> None:
        self._run = {"schema": SCHEMA, "direction": direction, "seed": seed, "setting": setting}
        self.identity = cache(identity)
        self._how = cache(self._digest)

    def __reduce__(self) -> tuple[Any, ...]:
        return Keys, (self._run["direction"], self._run["seed"], self._run["setting"])  # another process reads anew

    def craft(
        self, attack: Attack, source: Sequence[Model], queried: Model | None, image: str, sha256: str, repeat: int
    ) -> str:
        """Key of one adversarial image; ``queried`` is the target if the attack asks one for scores, ``sha256`` that
        of the clean image."""
        return json_digest([self._how(attack, tuple(source), queried), image, sha256, repeat])

    def row(self, crafted: str, target: Model) -> str:
        """Key of one row: the adversarial image of the craft key ``crafted`` as ``target`` scores it."""
        return json_digest([crafted, self.identity(target)])

    def _digest(self, attack: Attack, source: tuple[Model, ...], queried: Model | None) -> str:
        queried_id = queried and self.identity(queried)
        members = [self.identity(model) for model in source]
        return json_digest({**self._run, "attack": self.identity(attack), "source": members, "queried": queried_id})


def identity(plugin: Plugin) -> list[Any]:
    """Label, version and code of a plugin and of the plugins among its parameters, and a model's weights.

    A parameter's default counts as soon as there is more to say of it than its label, which a default is left out of.
    """
    nested = {}
    for one in dataclasses.fields(plugin):
        parts = [identity(part) for part in _inside(plugin, one.name)]
        if parts and (getattr(plugin, one.name) != one.default or any(part[1:] != _PLAIN for part in parts)):
            nested[one.name] = parts
    own = [plugin.label, plugin.version, plugin.code_sha256, plugin.distribution, nested]
    return [*own, plugin.weights_sha256] if isinstance(plugin, Model) else own


def foreign(plugins: Iterable[Plugin]) -> list[Plugin]:
    """One plugin of each name that does not come with iqarena, among these and their parameters."""
    by_name: dict[str, Plugin] = {}
    for plugin in plugins:
        by_name |= {plugin.name: plugin} if plugin.code_sha256 else {}
        by_name |= {one.name: one for f in dataclasses.fields(plugin) for one in foreign(_inside(plugin, f.name))}
    return list(by_name.values())


def _inside(plugin: Plugin, parameter: str) -> list[Plugin]:
    value = getattr(plugin, parameter)
    return [part for part in (value if isinstance(value, tuple) else (value,)) if isinstance(part, Plugin)]
