"""A run on disk: a manifest, and one row file per picture that is either whole or not there.

A row has names (picture, repeat, attack, source, target) and a ``key``, the hash of all that decides its numbers. A row
replaces the one of the same names, so that a picture, weights file or plugin that has changed leaves nothing behind.
A file is written under a temporary name, synced and renamed; what a killed run left half-written is never read.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from iqarena.api import CHECKPOINTS
from iqarena.errors import StoreError

NAMES = ["image", "repeat", "attack", "source", "target"]
_TEXT = ["key", *NAMES, "attack_label", "relation", "cluster", "image_sha256", "status", "message", "sha256"]
_NUMBERS = [
    "mos", "direction", "score_clean", "score_adv", "score_control", "score_float", "own_gain", "linf", "l2", "psnr",
    "ssim", "changed", "above_jnd", "zero_gradient", "forwards", "backwards", "queries", "no_response", "seconds",
    "score_seconds",
    "cosine", "sign_agreement", "energy_low", "energy_middle", "energy_high", "filter_kept", "mask_kept",
    *(f"score_at_{at}" for at in CHECKPOINTS), *(f"control_at_{at}" for at in CHECKPOINTS),
]  # fmt: skip
COLUMNS: dict[str, type] = {**dict.fromkeys(_TEXT, str), "repeat": int, **dict.fromkeys(_NUMBERS, float)}
_BLANK = {name: "" if kind is str else float("nan") for name, kind in COLUMNS.items()}  # of what a row knows nothing
_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64()}
_SCHEMA = pa.schema([(name, _ARROW[kind]) for name, kind in COLUMNS.items()])
_ABANDONED = 3600  # seconds after which a temporary file is nobody's


def digest(identity: Any) -> str:
    """32 hex digits of the sha256 of canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Store:
    """Rows and manifest of one run folder. ``written`` counts the row files written through this object."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows_folder = folder / "rows"
        self.written = 0

    def create(self) -> None:
        """Make the folders; what a killed writer left is removed once it cannot be a living one's."""
        with plain_errors(f"cannot create {self.folder}"):
            self.rows_folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.rows_folder.glob("*.part"):
                if time.time() - leftover.stat().st_mtime > _ABANDONED:
                    leftover.unlink(missing_ok=True)

    def write(self, image: str, rows: list[dict[str, Any]]) -> None:
        """Add rows of one picture to its file, atomically; columns that a row lacks are NaN, or empty for text."""
        path = self._path(image)
        kept = _read(path).to_pylist() if path.exists() else []
        named = {tuple(row[name] for name in NAMES): {**_BLANK, **row} for row in [*kept, *rows]}
        table = pa.Table.from_pylist([named[names] for names in sorted(named)], _SCHEMA)
        write_atomically(path, lambda part: pq.write_table(table, part))
        self.written += 1

    def rows(self) -> pd.DataFrame:
        """All rows of the pictures that the manifest names (of every picture, when there is no manifest)."""
        if self.has_manifest():
            paths = [path for image in self.manifest()["images"] if (path := self._path(image["id"])).exists()]
        else:
            paths = sorted(self.rows_folder.glob("*.parquet"))
        tables = [_read(path) for path in paths] or [_SCHEMA.empty_table()]
        frame = pa.concat_tables(tables, promote_options="default").to_pandas()
        return _filled(frame).sort_values(NAMES, ignore_index=True)

    def done(self) -> set[str]:
        """Keys with an ``ok`` row; what failed is tried again by the next run."""
        tables = [_read(path, ["key", "status"]) for path in self.rows_folder.glob("*.parquet")]
        return {row["key"] for table in tables for row in table.to_pylist() if row["status"] == "ok"}

    def has_manifest(self) -> bool:
        return (self.folder / "manifest.json").is_file()

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        write_atomically(self.folder / "manifest.json", lambda part: part.write_text(text, encoding="utf-8"))

    def manifest(self) -> dict[str, Any]:
        path = self.folder / "manifest.json"
        if not self.has_manifest():
            raise StoreError(
                f"{self.folder}: expected a run folder, found no manifest.json in it; see: iqarena run pocket"
            )
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            found["images"]
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(f"{path}: damaged ({error}); remove it and run again") from None
        return found

    def clear(self) -> None:
        """Forget rows, example pictures and plots of a run (``--overwrite always``); touches no other folder."""
        if self.has_manifest():
            for pattern in ("rows/*", "gallery/*", "plots/*", "manifest.json"):
                for path in self.folder.glob(pattern):
                    path.unlink()

    def _path(self, image: str) -> Path:
        return self.rows_folder / f"{slug(image)[:60]}-{digest(image)[:8]}.parquet"


def slug(text: str) -> str:
    """``text`` as part of a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file, then sync and rename it; raises :class:`StoreError`, leaving nothing."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with plain_errors(f"cannot write {path}"):
        try:
            write(part)
            with part.open("rb") as handle:
                os.fsync(handle.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


class plain_errors:
    """Turn an operating-system error (disk full, no permission) into one line for the user."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise StoreError(f"{self.what}: {reason}; what is stored stays, mend that and run again") from error


def _filled(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with what rows of an earlier version lack, empty."""
    blank = pd.DataFrame(_BLANK, index=frame.index)
    return frame.reindex(columns=list(COLUMNS)).fillna(blank).astype(COLUMNS)


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A row file; it is opened once, as another shard may be replacing it."""
    try:
        return pq.ParquetFile(io.BytesIO(path.read_bytes())).read(columns)
    except Exception as error:  # whatever a reader says of damaged bytes
        raise StoreError(f"{path}: not a readable row file ({error}); remove it and run again") from None
