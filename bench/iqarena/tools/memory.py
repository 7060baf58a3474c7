"""The most memory that this process has had."""

from __future__ import annotations

import sys
from contextlib import suppress


def peak_memory() -> int:
    """Bytes that were resident at once, at most, since the process began; 0 where the system does not tell."""
    with suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 0
