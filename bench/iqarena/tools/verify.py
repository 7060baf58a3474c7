"""Whether an unpacked copy of a published set is the whole set: table, file list, numbers, hashes, every image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from iqarena.errors import ImageError
from iqarena.files.hashing import file_sha256
from iqarena.images.sets.database import Database

SHOWN = 3  # names given of images that fail


def verify(images: Database, tick: Callable[[], object] = lambda: None) -> Iterator[tuple[bool, str]]:
    """(good, line) for each check of every split; ``tick`` hears of every image that has been decoded."""
    try:
        yield True, f"{images.root}: found"
    except ImageError as error:
        yield False, str(error)
        return
    for name, expected in images.sha256.items():
        digest = file_sha256(images.root / name) if (images.root / name).exists() else ""
        yield (
            digest == expected,
            f"{name}: sha256 {expected[:8]}… expected, found {digest[:8] + '…' if digest else 'no such file'}",
        )
    for split, number in images.splits.items():
        if split != "all" or len(images.splits) == 1:
            yield from _split(dataclasses.replace(images, split=split, crop=None), number, tick)


def _split(images: Database, number: int, tick: Callable[[], object]) -> Iterator[tuple[bool, str]]:
    try:
        items = images.items()
    except ImageError as error:
        yield False, str(error)
        return
    yield (
        len(items) == number,
        f"split {images.split}: {number} images expected, found {len(items)}, each with a score",
    )
    broken: list[str] = []
    for item in items:
        try:
            images.read(item)
        except ImageError as error:
            broken.append(str(error))
        tick()
    more = "; …" if len(broken) > SHOWN else ""
    reasons = f": {'; '.join(broken[:SHOWN])}{more}" if broken else ""
    sizes = f" and are {images.size[0]}×{images.size[1]}" if images.size else ""
    yield not broken, f"split {images.split}: {len(items) - len(broken)} of {len(items)} decode{sizes}{reasons}"
