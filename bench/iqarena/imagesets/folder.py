"""``folder`` — any folder of pictures, with or without opinion scores.

Pictures are the files directly in ``path`` with a picture's suffix, sorted by name; their id is the file name.
With ``csv`` (columns ``image, mos`` and, where pictures share a reference photograph, ``cluster``) the set is exactly
the pictures that the table names; without a cluster each picture is its own.
"""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from iqarena.api import ImageError, ImageItem, ImageSet
from iqarena.imagesets.decode import SUFFIXES, decode_file


@dataclass(frozen=True, kw_only=True, repr=False)
class FolderImages(ImageSet):
    name = "folder"

    path: str
    csv: str | None = None

    def items(self) -> list[ImageItem]:
        names = _pictures(Path(self.path).expanduser())
        if self.csv is None:
            return [ImageItem(id=name, cluster=name) for name in names]
        return _table(Path(self.csv).expanduser(), names)

    def read(self, item: ImageItem) -> np.ndarray:
        return decode_file(Path(self.path).expanduser() / item.id)


def _pictures(folder: Path) -> list[str]:
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        siblings = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
        raise ImageError(
            f"{folder}: expected a folder of pictures, found {found}{_close(folder.name, siblings)}; "
            "set path to an existing folder"
        )
    try:
        files = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    except OSError as error:
        raise ImageError(f"{folder}: expected a folder of pictures, cannot be listed: {error.strerror}") from None
    names = sorted(p.name for p in files if p.suffix.lower() in SUFFIXES)
    if not names:
        raise ImageError(
            f"{folder}: expected pictures ({', '.join(SUFFIXES)}), found none among {len(files)} files; "
            "subfolders are not searched, set path to the folder that holds the files"
        )
    return names


def _table(path: Path, present: list[str]) -> list[ImageItem]:
    expected = f"{path}: expected a csv with the columns image, mos"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            rows = list(reader)
    except OSError as error:
        siblings = [p.name for p in path.parent.glob("*.csv")]
        close = _close(path.name, siblings)
        raise ImageError(f"{expected}, cannot be read: {error.strerror}{close}; check csv") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ImageError(f"{expected}, found something else ({error}); save it as UTF-8 csv with commas") from None
    missing = [column for column in ("image", "mos") if column not in columns]
    if missing:
        raise ImageError(
            f"{expected}, found {', '.join(map(repr, columns)) or 'an empty file'}{_close(missing[0], columns)}; "
            f"add or rename: {', '.join(missing)}"
        )
    if not rows:
        raise ImageError(f"{expected}, found no rows; add a row per picture")
    items: dict[str, ImageItem] = {}
    known = set(present)
    for number, row in enumerate(rows, start=1):
        name = row["image"] or ""
        where = f"{path} row {number}"
        if name not in known:
            raise ImageError(
                f"{where}: expected a picture in the folder, found {name!r}{_close(name, present)}; "
                "mend or remove the row"
            )
        if name in items:
            raise ImageError(f"{where}: expected each picture once, found {name!r} again; keep one of its rows")
        items[name] = ImageItem(id=name, cluster=row.get("cluster") or name, mos=_score(row["mos"], where, name))
    return [items[name] for name in sorted(items)]


def _score(text: str | None, where: str, name: str) -> float:
    try:
        score = float(text or "")
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise ImageError(
            f"{where}: expected a finite mos for {name!r}, found {text or ''!r}; give a number or remove the row"
        )
    return score


def _close(name: str, valid: Iterable[str]) -> str:
    """The nearest names only: a folder has far too many to list them all."""
    close = difflib.get_close_matches(name, sorted(valid), n=3, cutoff=0.5)
    return f"; nearest: {', '.join(map(repr, close))}" if close else ""
