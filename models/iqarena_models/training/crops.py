"""Whole pictures and random crops of them in batches, decoded while the one before is worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from iqarena.api import ImageError
from iqarena.images.decode import decode_file

AHEAD = 4  # jobs
T = TypeVar("T")


def whole(paths: Sequence[Path]) -> Iterator[Tensor]:
    """Each picture ``(1, 3, H, W)`` in [0, 1], in order."""
    yield from ahead(paths, read_picture)


def read_picture(path: Path) -> Tensor:
    """``(1, 3, H, W)`` in [0, 1]."""
    return _tensor(decode_file(path))[None]


def crops(paths: Sequence[Path], batches: Sequence[np.ndarray], side: int, seed: Sequence[int]) -> Iterator[Tensor]:
    """A random crop ``(len(batch), 3, side, side)``, mirrored half of the time, of the pictures of each batch.

    A crop depends on ``seed`` and the picture's index only. Raises ``ImageError`` for a picture that is smaller.
    """

    def crop(row: int) -> Tensor:
        picture = decode_file(paths[row])
        height, width = picture.shape[:2]
        if min(height, width) < side:
            raise ImageError(
                f"{paths[row]}: expected at least {side}x{side} pixels to crop, found {width}x{height};"
                " take smaller crops or leave the picture out"
            )
        rng = np.random.default_rng([*seed, row])
        top, left = rng.integers(0, (height - side + 1, width - side + 1))
        part = picture[top : top + side, left : left + side]
        return _tensor(part[:, ::-1] if rng.integers(2) else part)

    yield from ahead(batches, lambda rows: torch.stack([crop(int(row)) for row in rows]))


def _tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float() / 255


def ahead(jobs: Sequence[T], make: Callable[[T], Tensor]) -> Iterator[Tensor]:
    """``make`` of each job in order, a few jobs ahead."""
    running: deque[Future[Tensor]] = deque()
    with ThreadPoolExecutor(2) as pool:
        for job in jobs:
            running.append(pool.submit(make, job))
            if len(running) > AHEAD:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
