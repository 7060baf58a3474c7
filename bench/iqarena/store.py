"""A run on disk: a manifest and row files that are either whole or not there.

Every row has a ``key``: the hash of all that decides its numbers. A file is written under a temporary name, synced and
renamed; what a killed run left half-written is never read.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from iqarena.errors import StoreError


def digest(identity: Any) -> str:
    """32 hex digits of the sha256 of canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Store:
    """Rows and manifest of one run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows_folder = folder / "rows"

    def create(self) -> None:
        with _plain_errors(f"cannot create {self.folder}"):
            self.rows_folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.rows_folder.glob("*.part"):
                leftover.unlink()

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Store one cell's rows atomically; the same keys go to the same file."""
        path = self.rows_folder / f"{digest([r['key'] for r in rows])}.parquet"
        frame = pd.DataFrame(rows)
        _write_atomically(path, lambda part: frame.to_parquet(part, index=False))

    def rows(self) -> pd.DataFrame:
        """All rows, one per key; where a key was retried, the row that is ``ok`` counts."""
        paths = sorted(self.rows_folder.glob("*.parquet"))
        if not paths:
            return pd.DataFrame()
        frames = []
        for path in paths:
            try:
                frames.append(pd.read_parquet(path))
            except Exception as error:
                raise StoreError(f"{path}: not a readable row file ({error}); delete it and run again") from None
        frame = pd.concat(frames, ignore_index=True)
        order = frame["status"].eq("ok").to_numpy().argsort(kind="stable")
        return frame.iloc[order].drop_duplicates("key", keep="last").sort_values("key", ignore_index=True)

    def done(self) -> set[str]:
        """Keys with an ``ok`` row; what failed is tried again by the next run."""
        frame = self.rows()
        return set() if frame.empty else set(frame.loc[frame["status"] == "ok", "key"])

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        _write_atomically(self.folder / "manifest.json", lambda part: part.write_text(text, encoding="utf-8"))

    def manifest(self) -> dict[str, Any]:
        path = self.folder / "manifest.json"
        if not path.is_file():
            raise StoreError(f"expected a run folder with manifest.json, found none in {self.folder}; see: iqarena run pocket")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StoreError(f"{path}: damaged ({error}); run again with --overwrite always") from None

    def clear(self) -> None:
        """Forget all rows (``--overwrite always``)."""
        for path in self.rows_folder.glob("*.parquet"):
            path.unlink()


def _write_atomically(path: Path, write: Any) -> None:
    part = path.with_name(path.name + ".part")
    with _plain_errors(f"cannot write {path}"):
        try:
            write(part)
            with part.open("rb") as handle:
                os.fsync(handle.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


class _plain_errors:
    """Turn an operating-system error (disk full, no permission) into one line for the user."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise StoreError(f"{self.what}: {reason}; nothing already stored is lost, free the cause and run again") from error
