"""Score tables: csv files read strictly, every surprise named with its file and row."""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from iqarena.errors import ImageError

Row = dict[str, str]


def read_csv(path: Path, columns: Sequence[str]) -> list[Row]:
    """Rows of a UTF-8 csv with commas that has at least ``columns``; raises :class:`ImageError` otherwise."""
    expected = f"{path}: expected a csv with the columns {', '.join(columns)}"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or [])
            rows = list(reader)
    except OSError as error:
        near = close(path.name, [p.name for p in path.parent.glob("*.csv")])
        raise ImageError(f"{expected}, cannot be read: {error.strerror}{near}; check csv") from None
    except (ValueError, csv.Error) as error:  # also a path with a null character
        raise ImageError(f"{expected}, found something else ({error}); save it as UTF-8 csv with commas") from None
    missing = [column for column in columns if column not in header]
    if missing:
        raise ImageError(
            f"{expected}, found {', '.join(map(repr, header))[:200] or 'an empty file'}{close(missing[0], header)}; "
            f"add or rename: {', '.join(missing)}"
        )
    if not rows:
        raise ImageError(f"{expected}, found no rows; add a row per image")
    return rows


def finite(value: object, where: str, name: str) -> float:
    """``value`` as an opinion score of image ``name``; anything but a finite number is an :class:`ImageError`."""
    try:
        score = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        text = "" if value is None else value
        raise ImageError(
            f"{where}: expected a finite mos for {name!r}, found {text!r}; give a number or remove the row"
        )
    return score


def close(name: str, valid: Iterable[str]) -> str:
    """The nearest names only: a folder has far too many to list them all."""
    near = difflib.get_close_matches(name, sorted(valid), n=3, cutoff=0.5)
    return f"; nearest: {', '.join(map(repr, near))}" if near else ""
