"""``rows.parquet``: rows of many images in one file, which is read a hundred times as quickly as a file of each.

If an image has a row file of its own, that file is used and its packed rows are ignored; a pack is never edited in
place, so packing may be interrupted at any point. The pack is written before the row files go, so whoever reads the
row files first and then the pack misses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from iqarena.files.atomic import is_there, write_atomically
from iqarena.store.rowfile import packed, read
from iqarena.store.schema import BLANK, COLUMNS, NAMES, SCHEMA

FILE = "rows.parquet"
MANY = 20  # row files; fewer are read in an instant


def read_pack(folder: Path, columns: Sequence[str] = tuple(COLUMNS)) -> dict[str, pa.Table]:
    """The packed rows of each image; empty where nothing is packed."""
    path = folder / FILE
    return by_image(read(path, columns)) if is_there(path) else {}


def write_pack(folder: Path, tables: Mapping[str, pa.Table]) -> None:
    write_atomically(folder / FILE, packed(joined(tables)))


def by_image(table: pa.Table) -> dict[str, pa.Table]:
    """Rows of each image."""
    images = table["image"].combine_chunks().dictionary_encode()
    starts = np.flatnonzero(np.diff(images.indices.to_numpy(), prepend=-1))
    if len(starts) > len(images.dictionary):  # another program has written it in an order of its own
        return by_image(table.sort_by([(name, "ascending") for name in NAMES]))
    names = [images[int(start)].as_py() for start in starts]
    places = pairwise([*starts, len(table)])
    return {name: table.slice(start, end - start) for name, (start, end) in zip(names, places, strict=True)}


def joined(tables: Mapping[str, pa.Table], columns: Iterable[str] = tuple(COLUMNS)) -> pa.Table:
    """All rows, image by image, with the columns of a row that are among ``columns``; what one of an earlier version
    lacks is empty."""
    wanted = {*NAMES, *columns}
    empty = SCHEMA.empty_table().select([name for name in COLUMNS if name in wanted])
    table = pa.concat_tables([empty, *(tables[image] for image in sorted(tables))], promote_options="default")
    for k, field in enumerate(table.schema):
        if field.type == pa.string() and table[field.name].null_count:
            table = table.set_column(k, field.name, table[field.name].fill_null(""))
    return table


def as_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The same as dictionaries, with every column of a row."""
    return [{**BLANK, **row} for row in table.to_pylist()]
