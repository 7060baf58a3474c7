"""What ``--images`` makes of a suite's image set."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

from iqarena.registry.tables import build, names, plugin_class


def replace_images(images: str | dict[str, Any] | None, wish: str) -> str | dict[str, Any]:
    """``wish`` is another set by its spec (``clive``, ``koniq10k(width=1024)``), or a place: where the suite's own
    database or folder lies, everything else about it unchanged, or else a folder of images."""
    from iqarena.images.sets.database import Database  # decoders: not needed to list plugins

    if wish.partition("(")[0] in names("imageset"):
        return wish
    table = _table(images) if isinstance(images, str) else images if isinstance(images, dict) else {}
    own = plugin_class("imageset", str(table.get("set", "folder")))
    if issubclass(own, Database):
        return {**table, "path": wish}
    return _folder(table, wish) if own.name == "folder" else {"set": "folder", "path": wish}


def _folder(table: dict[str, Any], wish: str) -> dict[str, Any]:
    """``wish`` in place of the folder that holds the suite's images and csv, if it is laid out alike; if not, a folder
    of images alone, cropped as the suite's are."""
    if isinstance(table.get("path"), str) and isinstance(table.get("csv"), str):
        files = [os.path.abspath(os.path.expanduser(table[key])) for key in ("path", "csv")]
        names = [os.path.relpath(file, os.path.commonpath(files)) for file in files]
        images, csv = (str(Path(wish, name)) for name in names)
        if os.path.isdir(os.path.expanduser(images)) and os.path.isfile(os.path.expanduser(csv)):
            return {**table, "set": "folder", "path": images, "csv": csv}
        if os.path.isdir(os.path.expanduser(wish)):
            lost = ", ".join(key for key in ("csv", "split", "order") if key in table)
            logging.getLogger("iqarena").warning(
                f"iqarena: --images: {wish} is a folder of images alone, without the suite's {lost}; for these name a"
                f" folder that has {' and '.join(names)} in it"
            )
    return {"set": "folder", "path": wish, **{key: table[key] for key in ("crop",) if key in table}}


def _table(spec: str) -> dict[str, Any]:
    """A spec string as a suite's table."""
    built = build("imageset", spec)
    values = {one.name: (getattr(built, one.name), one.default) for one in dataclasses.fields(built)}
    return {"set": built.name, **{key: value for key, (value, default) in values.items() if value != default}}
