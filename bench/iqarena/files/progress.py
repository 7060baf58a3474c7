"""Progress bars, and the one switch that silences all of them: ``IQARENA_QUIET=1`` (``--quiet``)."""

from __future__ import annotations

import os
from typing import Any

QUIET = "IQARENA_QUIET"


def progress_bar(*args: Any, **options: Any) -> Any:
    """A bar of tqdm, by its arguments; it draws nothing where bars are switched off."""
    from tqdm import tqdm

    return tqdm(*args, **{**options, "disable": True} if quiet() else options)


def quiet() -> bool:
    return os.environ.get(QUIET, "") not in ("", "0")
