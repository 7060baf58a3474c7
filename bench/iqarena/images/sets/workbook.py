"""Score tables that are published as Excel workbooks, read as strictly as the csv ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl

from iqarena.errors import ImageError

LOOK = 10  # the heading is among the first rows


def read_sheet(path: Path, columns: Sequence[str], sheet: str | None = None) -> list[dict[str, Any]]:
    """Rows of a sheet (by default the first) below the row that holds all of ``columns``; empty rows are left out."""
    expected = f"{path}: expected an Excel workbook with {f'the sheet {sheet} and ' if sheet else ''}the columns "
    expected += ", ".join(columns)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except FileNotFoundError:
        raise ImageError(f"{expected}, found no such file; unpack the set again") from None
    except Exception as error:  # the reader raises nearly anything for damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{expected}, cannot be read ({reason}); download it again") from None
    try:
        if sheet is not None and sheet not in book.sheetnames:
            raise ImageError(f"{expected}, found the sheets {', '.join(book.sheetnames)}; download it again")
        rows = list(book[sheet or book.sheetnames[0]].iter_rows(values_only=True))
    finally:
        book.close()
    for number, heading in enumerate(rows[:LOOK], start=1):
        if set(columns) <= set(heading):
            places = [heading.index(column) for column in columns]
            rows = [row + (None,) * (len(heading) - len(row)) for row in rows[number:]]  # a short one ends early
            cells = [[row[place] for place in places] for row in rows]
            return [dict(zip(columns, values, strict=True)) for values in cells if values[0] is not None]
    first = next((row for row in rows if any(row)), ())
    raise ImageError(f"{expected}, found {', '.join(repr(c) for c in first if c is not None)[:200] or 'no rows'}")
