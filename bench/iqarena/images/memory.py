"""How large an image may be, and how many large ones are worked on at once: what bounds the memory of a process.

No worker has a budget of its own. Threads decode, craft and score images above ``LARGE`` pixels one at a time, and keep
what they know of theirs while they wait: pixels, the reference of the distances, gradients at the clean image. Process
and Ray workers take no turns with each other: so many of them need so many times the memory of one.

Measured with scorers that need next to nothing themselves, a run takes about 160 bytes a pixel for one image and 200 to
260 for two in two threads: 10 GB for one image of ``MAX_PIXELS``, 13 to 17 GB for two. The gradient of a network comes
on top: with a small one (``fgsm``, ``mi_fgsm``, ``sega``, 9 megapixels) it was 250 for one image, 310 for two in two
threads and 440 for two in two processes.
"""

from __future__ import annotations

import contextlib
import threading
from contextlib import AbstractContextManager
from typing import Any

MAX_PIXELS = 64_000_000  # 8000 × 8000: two threads need about 16 GB for two of them, a common machine's memory
LARGE = 4_000_000  # pixels together: 0.6 GB, which each of several threads may take at once

_turn = threading.RLock()


def one_at_a_time(pixels: int) -> AbstractContextManager[Any]:
    """Context in which images above ``LARGE`` pixels are processed one at a time in this process.

    It is re-entrant within a thread.
    """
    return _turn if pixels > LARGE else contextlib.nullcontext()
