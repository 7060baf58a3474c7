"""Hashes of files and of data."""

from __future__ import annotations

import hashlib
import json
from functools import cache, lru_cache
from pathlib import Path
from typing import Any


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, read now, as 64 hex digits; raises ``OSError``."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """Cached :func:`file_sha256`: the file is read again only when its inode, size, mtime or ctime changes."""
    stat = path.stat()
    return _known(path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def json_digest(data: Any) -> str:
    """32 hex digits of the sha256 of canonical JSON."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def package_sha256() -> str:
    """Hash of iqarena's own Python files, read once."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@lru_cache(maxsize=256)
def _known(path: Path, *stamp: int) -> str:
    return file_sha256(path)
