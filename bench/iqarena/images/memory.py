"""How large an image may be, and how many large ones are worked on at once: what bounds the memory of a process.

A run holds about 40 bytes a pixel of every image that it is at, and about 80 more while it crafts, scores or decodes
one: 120 bytes times ``MAX_PIXELS`` are 8 GB, and the gradient of a network of any depth is a multiple of that.
"""

from __future__ import annotations

import contextlib
import threading
from contextlib import AbstractContextManager
from typing import Any

MAX_PIXELS = 64_000_000  # 8000 × 8000: larger than any image of the databases, and what 16 GB of memory hold
LARGE = 4_000_000  # pixels together: half a gigabyte, which each of many workers may take

_turn = threading.RLock()


def one_at_a_time(pixels: int) -> AbstractContextManager[Any]:
    """Work on ``pixels``, which waits for its turn in this process when they are many; the same thread may nest it."""
    return _turn if pixels > LARGE else contextlib.nullcontext()
