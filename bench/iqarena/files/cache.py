"""Where iqarena keeps what can be had again."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

CACHE = "IQARENA_CACHE"


def cache_folder() -> Path:
    """iqarena's cache: ``IQARENA_CACHE``, or the platform's place for what can be had again."""
    given = os.environ.get(CACHE)
    return Path(given).expanduser() if given else user_cache_path("iqarena", appauthor=False)
