"""Row files: Parquet with a checksum of its own bytes, so that a flipped bit is an error and never another number.

The checksum is the sha256 of the file with zeros in its place. It stands in the file's own metadata, after all rows, so
any reader of Parquet takes the file.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from iqarena.errors import StoreError
from iqarena.files.atomic import plain_errors
from iqarena.store.schema import NAMES, SCHEMA

_MARK, _ZEROS = b"iqarena:sha256:", b"0" * 64


def packed(table: pa.Table) -> bytes:
    """The file of these rows. A few rows of many columns: what stands beside the values would be half of it."""
    buffer, text = io.BytesIO(), [field.name for field in table.schema if field.type == pa.string()]
    lean = {"write_statistics": False, "store_schema": False, "use_dictionary": text}
    with pq.ParquetWriter(buffer, table.schema.remove_metadata(), compression="zstd", **lean) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"checksum": _MARK + _ZEROS})
    head, mark, tail = buffer.getvalue().rpartition(_MARK)
    return head + mark + _sha256(head, tail) + tail[64:]


def read(path: Path, columns: Sequence[str] = tuple(SCHEMA.names)) -> pa.Table:
    """A row file, of whose columns it has these and the names; raises :class:`StoreError` for a damaged one.

    One of an earlier version has no checksum. One that another program has written has its own types: they are made
    ours, or named. It is opened once, as another shard may be replacing it.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except Exception:
        with plain_errors(f"cannot read {path}", path):
            raise
    try:
        head, mark, tail = data.rpartition(_MARK)
        if mark and tail[:64] != (expected := _sha256(head, tail)):
            raise ValueError(f"its checksum is {expected[:12].decode()}…, it says {tail[:12]!r}")
        return _typed(pq.ParquetFile(io.BytesIO(data)).read([*NAMES, "status", *columns]))
    except Exception as error:  # whatever a reader says of damaged bytes
        reason = re.sub(r"\s+", " ", str(error)).strip()
        raise StoreError(f"{path}: not a readable row file ({reason}); remove it and run again") from None


def _typed(table: pa.Table) -> pa.Table:
    """The columns of a row that ``table`` has, in their types; raises :class:`ValueError` for what no run writes."""
    found, columns = dict(zip(table.column_names, table.columns, strict=True)), {}
    for field in SCHEMA:
        if (column := found.get(field.name)) is not None:
            try:
                columns[field.name] = column if column.type == field.type else column.cast(field.type)
            except (pa.ArrowException, NotImplementedError):
                raise ValueError(f"expected {field.type} in column {field.name!r}, found {column.type}") from None
    for name in (*NAMES, "status"):
        if name not in columns or columns[name].null_count:
            raise ValueError(f"expected a column {name!r} without gaps")
    if strange := set(columns["status"].unique().to_pylist()) - {"ok", "error"}:
        raise ValueError(f"expected ok or error in column 'status', found {min(strange)!r:.60}")
    return pa.table(columns)


def _sha256(head: bytes, tail: bytes) -> bytes:
    return hashlib.sha256(head + _MARK + _ZEROS + tail[64:]).hexdigest().encode()
