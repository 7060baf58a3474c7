"""Images that need not be read again: their files are as they were before a finished run read them.

``settled.json`` is a memory and no evidence. It counts while everything else that decides a row is the same, code and
packages too, and so are the rows; otherwise every image is read, and every key worked out, as ever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from iqarena.api import ImageItem
from iqarena.files.atomic import write_atomically
from iqarena.files.hashing import json_digest, package_sha256
from iqarena.store.keys import identity
from iqarena.store.manifest import Manifest
from iqarena.store.union import setting
from iqarena.suite.plan import Plan

FILE = "settled.json"


class Settled:
    """Made before anything is read: ``items`` are the images whose files are looked at, ``own`` is what is planned."""

    def __init__(self, folder: Path, plan: Plan, own: Manifest, items: Sequence[ImageItem]) -> None:
        self._path = folder / FILE
        self._work = json_digest([
            setting(own), plan.suite.repeats, own.sources, own.targets, [attack.identity for attack in own.attacks],
            [model.identity for model in own.models.values()], identity(plan.images), own.packages, own.python,
            package_sha256(),
        ])  # fmt: skip
        self._stamps = {item.id: stamp for item in items if (stamp := plan.images.stamp(item))}

    def images(self, rows: pd.DataFrame) -> set[str]:
        """Those of the images whose ``rows`` are all there, by what was noted."""
        known = self._noted(_digest(rows))
        return {image for image, stamp in self._stamps.items() if known.get(image) == stamp}

    def forget(self, image: str) -> None:
        """Let it be read again the next time."""
        self._stamps.pop(image, None)

    def note(self, rows: pd.DataFrame) -> None:
        """Keep the stamps for the next run; ``rows`` are those of a run of which none is missing."""
        failed = set(rows.loc[rows["status"] != "ok", "image"])
        stamps = {image: stamp for image, stamp in self._stamps.items() if image not in failed}
        digest = _digest(rows)
        noted = self._noted(digest)
        if any(noted.get(image) != stamp for image, stamp in stamps.items()):
            kept = {"work": self._work, "rows": digest, "images": stamps}
            write_atomically(self._path, json.dumps(kept, indent=1).encode())

    def _noted(self, digest: str) -> dict[str, Any]:
        with suppress(Exception):  # not there, not ours, out of reach: no matter
            noted = json.loads(self._path.read_text(encoding="utf-8"))
            if (noted["work"], noted["rows"]) == (self._work, digest):
                return dict(noted["images"])
        return {}


def _digest(rows: pd.DataFrame) -> str:
    """Of the keys of all rows that have numbers, whatever their order."""
    keys = sorted(rows.loc[rows["status"] == "ok", "key"])
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()
