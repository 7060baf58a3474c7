"""The most memory that this process has had."""

from __future__ import annotations

import resource
import sys


def peak_memory() -> int:
    """Bytes that were resident at once, at most, since the process began."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
