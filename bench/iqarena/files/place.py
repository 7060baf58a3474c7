"""Where a run is kept: a local folder, or a URL of an object store.

Both are paths with the methods of :class:`pathlib.Path`; those of URLs come from universal-pathlib, which stands on
fsspec. An object is whole or not there, and folders of an object store need not be made. S3 and Google's store refuse
to create an object that is there, which locks stand on (:mod:`iqarena.store.lock`).
"""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import Any

from iqarena.errors import StoreError, plain


def place(where: str | PathLike[str]) -> Path:
    """``where`` as a path. A URL is ``s3://bucket/run``, ``gs://bucket/run`` or any other that fsspec knows.

    Raises :class:`StoreError`, in one line, for a store that cannot be reached or whose packages are not there.
    """
    if not isinstance(where, (str, PathLike)):
        return where  # a path of universal-pathlib
    if "://" not in (text := fspath(where)):
        return Path(text)
    try:
        from upath import UPath

        path: Any = UPath(text, use_listings_cache=False)  # others write there too
        path.exists()
    except Exception as error:  # each store has its own, and few are an operating system's
        hint = "; pip install 'iqarena[s3]' or 'iqarena[gs]'" if isinstance(error, ImportError) else ""
        raise StoreError(f"{text}: cannot be reached: {plain(str(error) or type(error).__name__)}{hint}") from None
    return Path(path.path) if path.protocol in ("file", "local") else path


def is_local(path: Path) -> bool:
    """Whether ``path`` is in the file system of this machine."""
    return isinstance(path, Path)


def created(path: Path, data: bytes) -> bool:
    """Put an object of an object store where there is none, at once; whether there was none."""
    store: Any = path
    try:
        store.fs.pipe_file(store.path, data, mode="create")
    except FileExistsError:
        return False
    return True
