"""Valid manifests for tests: whatever a test does not care about is filled in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from iqarena.store.manifest import Manifest

_RUN: dict[str, Any] = {
    "suite": "toy", "settings": {}, "command": "iqarena run toy", "seed": 0, "started": "2026-01-01",
    "finished": "2026-01-02", "packages": {}, "python": "3.11", "platform": "Linux", "processor": "x86_64",
    "git_commit": None, "device": "cpu", "precision": "fp32", "image_set": "toy", "images": [], "sources": [],
    "targets": [], "models": {}, "attacks": [], "planned": 0,
}  # fmt: skip
_ATTACK: dict[str, Any] = {"eps": 8 / 255, "version": 1, "access": "gradient"}


def toy_manifest(attacks: Iterable[Mapping[str, Any]] = (), **changes: Any) -> Manifest:
    """A manifest with these keys, as they stand in JSON; an attack needs no more than its ``label``."""
    filled = [{"spec": attack["label"], **_ATTACK, **attack} for attack in attacks]
    return Manifest.from_json({**_RUN, "attacks": filled, **changes})
