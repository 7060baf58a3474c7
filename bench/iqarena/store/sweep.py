"""The manifest of a sweep: what its tables were measured on, with what. One type, one reader, one writer."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from iqarena.errors import StoreError
from iqarena.files.atomic import write_atomically
from iqarena.store.decode import from_json

FILE = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class SweepManifest:
    """``limit``, ``epochs``, ``crop`` (pixels) and ``seed`` are those of its trainings, on ``data``.

    ``images`` counts the attacked images, ``eps`` are the budgets of the theorem (``1/255``), and ``models`` are the
    weights' hashes of its hardened scorers, by the scorer.
    """

    command: str
    data: str
    seed: int
    epochs: int
    limit: int
    crop: int
    device: str
    images: int
    attacks: tuple[str, ...]
    eps: tuple[str, ...]
    models: dict[str, str]
    packages: dict[str, str | None]
    python: str
    platform: str
    processor: str
    git_commit: str | None
    image_set: str = "pocket"

    @classmethod
    def read(cls, folder: Path) -> SweepManifest:
        """Raises :class:`StoreError`, one line that names the key, for a folder that holds no sweep."""
        path = folder / FILE
        try:
            return from_json(cls, json.loads(path.read_text(encoding="utf-8")), "")
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{path}: not a sweep's manifest ({error}); choose another --out, or run the sweep again"
            ) from None

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` into ``folder`` atomically."""
        text = json.dumps(dataclasses.asdict(self), indent=1) + "\n"
        write_atomically(folder / FILE, text.encode())
