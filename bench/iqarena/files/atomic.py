"""Files that are either whole or not there, and names that can be file names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iqarena.errors import IqarenaError, StoreError, plain
from iqarena.files.hashing import json_digest
from iqarena.files.place import is_local


def slug(text: str) -> str:
    """``text`` as part of a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def file_name(text: str, length: int, digits: int) -> str:
    """``text`` as a file name of its own: its slug, cut to ``length``, and as many hex ``digits`` of its hash."""
    return f"{slug(text)[:length]}-{json_digest(text)[:digits]}"


def write_atomically(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a temporary file, then sync and rename it; raises :class:`StoreError`, leaving nothing.

    The folder is made. Without ``sync`` a power failure may leave any content: for files that are checked when read.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with plain_errors(f"cannot write {path}", path):
        if not is_local(path):
            path.write_bytes(data)
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(data)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where the store has such; raises :class:`StoreError`."""
    with plain_errors(f"cannot create {path}"):
        if is_local(path):
            path.mkdir(parents=True, exist_ok=True)


def is_there(path: Path) -> bool:
    """Whether there is anything at ``path``; raises :class:`StoreError` when its store does not say."""
    with plain_errors(f"cannot look for {path}", path):
        return path.exists()


@contextmanager
def plain_errors(what: str, *paths: Path) -> Iterator[None]:
    """Turn an operating-system error (disk full, no permission) into one line for the user, and any error if one of the
    ``paths`` is in an object store: each store has its own."""
    try:
        yield
    except IqarenaError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and all(map(is_local, paths)):
            raise
        code = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(code) if code else plain(str(error)) or type(error).__name__
        raise StoreError(f"{what}: {reason}; what is stored stays, mend that and run again") from error
