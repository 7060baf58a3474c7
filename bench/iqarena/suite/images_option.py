"""What ``--images`` makes of a suite's image set."""

from __future__ import annotations

import dataclasses
from typing import Any

from iqarena.registry.tables import build, names, plugin_class


def instead(images: str | dict[str, Any] | None, wish: str) -> str | dict[str, Any]:
    """``wish`` is another set by its spec (``clive``, ``koniq10k(width=1024)``), or a place: where the suite's own
    database lies, everything else about it unchanged, or for any other suite a folder of images."""
    from iqarena.images.sets.database import Database  # decoders: not needed to list plugins

    if wish.partition("(")[0] in names("imageset"):
        return wish
    table = _table(images) if isinstance(images, str) else images if isinstance(images, dict) else {}
    if issubclass(plugin_class("imageset", str(table.get("set", "folder"))), Database):
        return {**table, "path": wish}
    return {"set": "folder", "path": wish}


def _table(spec: str) -> dict[str, Any]:
    """A spec string as a suite's table."""
    built = build("imageset", spec)
    values = {one.name: (getattr(built, one.name), one.default) for one in dataclasses.fields(built)}
    return {"set": built.name, **{key: value for key, (value, default) in values.items() if value != default}}
