"""``pocket`` — 52 images of 384×288, one of each reference image, that come with the package.

No download, nothing to accept: photographs of different scenes under CC0, CC-BY or in the public domain
(``pocket_images/ATTRIBUTION.md``). Half of them are shown as they are, the other half with a degradation of known kind
and strength, computed when it is read, so that the set spans the scale of a scorer; the first N of them do so too. The
id says which: ``bridge+jpeg10`` is JPEG of quality 10, ``canyon+blur2`` a Gaussian of σ = 2 pixels, ``dogs+noise30``
noise of σ = 30 grey levels, ``hills+dark40`` 40 % of the light taken away. There are no opinion scores, and none are
made up. ``crop`` takes a smaller square from the middle of each.
"""

from __future__ import annotations

import csv
import hashlib
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from iqarena.api import ImageError, ImageItem, ImageSet
from iqarena.errors import SpecError, nearest
from iqarena.images.decode import centre, decode
from iqarena.images.degrade import degrade

WIDTH, HEIGHT = 384, 288  # small enough for the main job's time on two cores
FOLDER = Path(__file__).parent / "pocket_images"


@dataclass(frozen=True, kw_only=True, repr=False)
class PocketImages(ImageSet):
    name = "pocket"
    version = 2

    crop: int | None = None  # side in pixels; none: the full 384×288

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop is not None and not 1 <= self.crop <= HEIGHT:
            raise SpecError(f"pocket: expected crop from 1 to {HEIGHT} pixels or none, found {self.crop}")

    def items(self) -> list[ImageItem]:
        return [ImageItem(id=id, cluster=id.partition("+")[0]) for id in _sha256s()]

    def read(self, item: ImageItem) -> np.ndarray:
        image, degradation = self.read_reference(item), item.id.partition("+")[2]
        if degradation:
            image = degrade(image, *_kind_and_strength(degradation), seed=zlib.crc32(item.id.encode()))
        return centre(image, self.crop, item.id)

    def read_reference(self, item: ImageItem) -> np.ndarray:
        """The whole photograph, undegraded: uint8 RGB ``(288, 384, 3)``; :class:`ImageError` if it is damaged."""
        if item.id not in _sha256s():
            raise ImageError(f"pocket: no image {item.id!r}{nearest(item.id, _sha256s())}; see PocketImages().items()")
        path = FOLDER / f"{item.cluster}.jpg"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ImageError(f"{path}: expected a packaged image, {error.strerror}; install iqarena again") from None
        digest = hashlib.sha256(data).hexdigest()
        if digest != _sha256s()[item.id]:
            raise ImageError(f"{path}: expected sha256 {_sha256s()[item.id]}, found {digest}; install iqarena again")
        return decode(data, str(path))


def _kind_and_strength(degradation: str) -> tuple[str, float]:
    """``jpeg10`` in the units of :func:`degrade`."""
    kind = degradation.rstrip("0123456789")
    number = float(degradation.removeprefix(kind))
    return kind, {"jpeg": 100 - number, "dark": number / 100}.get(kind, number)


@cache
def _sha256s() -> dict[str, str]:
    """sha256 of the reference image's file by image id, in the order of the set."""
    with (FOLDER / "images.csv").open(newline="", encoding="utf-8") as file:
        return {row["id"]: row["sha256"] for row in csv.DictReader(file)}
