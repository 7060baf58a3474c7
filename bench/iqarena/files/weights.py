"""Files of published parameters: where they are looked for, what proves that they are right, how one is had.

A file is looked for in ``IQARENA_WEIGHTS_DIR`` (``--weights-dir``), in iqarena's cache (``IQARENA_CACHE``, else the
platform's cache folder) and where pyiqa keeps its downloads. When it is nowhere it is downloaded, unless
``IQARENA_OFFLINE=1`` (``--offline``): then no socket is opened, and the error says what to put where. Imports no torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from iqarena.errors import WeightsError
from iqarena.files.cache import cache_folder
from iqarena.files.hashing import known_sha256

WEIGHTS_DIR, OFFLINE = "IQARENA_WEIGHTS_DIR", "IQARENA_OFFLINE"


@dataclass(frozen=True)
class WeightFile:
    """A file by its name; ``url`` serves its bytes, ``page`` tells a person where to get it.

    ``sha256`` may be cut to its first digits. When left out it is read off the name of a file with a ``url``: the hubs
    of this field end names in the first eight hex digits (``HyperIQA-resnet50-koniq10k-c96c41b1.pth``). Without
    ``url`` and ``page`` it is a file of the user's own. ``size`` in bytes, where it is known, is the most that is
    downloaded.
    """

    name: str
    url: str = ""
    page: str = ""
    sha256: str = ""
    size: int = 0

    @property
    def expected(self) -> str:
        """The first hex digits of its sha256, as many as are known; empty for none."""
        match = re.search(r"-([0-9a-f]{8})\.\w+$", self.name) if self.url else None
        return self.sha256 or (match[1] if match else "")


def search_folders() -> list[Path]:
    """Folders that are searched, in this order."""
    torch_hub = Path(os.environ.get("TORCH_HOME") or _user_cache() / "torch").expanduser() / "hub"
    given = _given()
    hubs = [torch_hub / name for name in ("pyiqa", "clip", "checkpoints")]
    return [*([given] if given else []), cache_folder() / "weights", *hubs]


def download_folder() -> Path:
    """Folder that downloads go into: the user's, else (or when that may not be written) the cache."""
    given = _given()
    writable = given and (not os.path.exists(given) or os.access(given, os.W_OK))
    return given if given and writable else cache_folder() / "weights"


def obtain(file: WeightFile) -> Path:
    """Where ``file`` is, checked against its hash; downloaded when it is nowhere.

    Raises :class:`WeightsError` when it is damaged, cannot be downloaded, or may not be (``IQARENA_OFFLINE``).
    """
    for folder in search_folders():
        if (path := folder / file.name).is_file():
            return _checked(path, file)
    if file.url and not offline():
        from iqarena.files.download import download

        return download(file.url, download_folder() / file.name, file.expected, file.size)
    searched = ", ".join(str(folder) for folder in search_folders())
    where = f"get it from {file.url or file.page} and" if file.url or file.page else "it is a file of your own:"
    raise WeightsError(
        f"expected the weights {file.name}, found none in {searched}; {where} put it into {download_folder()},"
        " or say where it is with --weights-dir"
    )


def offline() -> bool:
    return os.environ.get(OFFLINE, "") not in ("", "0")


@contextmanager
def no_downloads() -> Iterator[None]:
    """Offline for a while: what only asks whether a file is there does not bring it."""
    before = os.environ.get(OFFLINE, "")
    os.environ[OFFLINE] = "1"
    try:
        yield
    finally:
        os.environ[OFFLINE] = before


def _checked(path: Path, file: WeightFile) -> Path:
    if not (digest := known_sha256(path)).startswith(file.expected):
        raise WeightsError(
            f"{path}: expected sha256 {file.expected[:12]}…, found {digest[:12]}…;"
            f" remove it, then: iqarena fetch models (or get it again from {file.url or file.page})"
        )
    return path


def _given() -> Path | None:
    given = os.environ.get(WEIGHTS_DIR)
    return Path(os.path.expanduser(given)) if given else None


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser()
