"""What decides a number, as data: the keys that rows are stored and found under."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from iqarena.api import Attack, ImageItem, Model, Plugin
from iqarena.files.hashing import json_digest

SCHEMA = 1  # raised when rows of an older version can no longer be mixed with new ones


def row_key(
    attack: Attack,
    source: Sequence[Model],
    target: Model,
    item: ImageItem,
    image_sha256: str,
    *,
    direction: str,
    seed: int,
    repeat: int,
    setting: tuple[str, str],
) -> str:
    """Key of one row; ``setting`` is (device type, precision). Batch size, order and shard are not in it."""
    return json_digest(
        {
            "schema": SCHEMA,
            "attack": _versions(attack),
            "source": [_model(m) for m in source],
            "target": _model(target),
            "image": [item.id, item.cluster, image_sha256, item.mos],
            "direction": direction,
            "seed": seed,
            "repeat": repeat,
            "setting": setting,
        }
    )


def _model(model: Model) -> list[Any]:
    return [_versions(model), model.weights_sha256]


def _versions(plugin: Plugin) -> list[Any]:
    """Spec and version of a plugin and of the plugins among its parameters."""
    parts: list[Any] = [repr(plugin), plugin.version]
    for one in dataclasses.fields(plugin):
        value = getattr(plugin, one.name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Plugin):
                parts.append(_versions(inner))
    return parts
