"""``pocket`` — 24 pictures of 384×288 that come with the package: no download, nothing to accept.

The middle of thirteen free photographs (``pocket_images/ATTRIBUTION.md``), eleven of them shown as they are, and each
of the thirteen once with a degradation of known kind and strength, computed when it is read, so that the set spans
the scale of a scorer. The id says which: ``china+jpeg10`` is JPEG of quality 10, ``coffee+blur2`` a Gaussian of σ = 2
pixels, ``dogs+noise30`` noise of σ = 30 grey levels, ``hills+dark40`` 40 % of the light taken away. There are no
opinion scores, and none are made up. ``crop`` takes a smaller square from the middle of each.
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
from iqarena.images.decode import decode
from iqarena.images.degrade import degrade

WIDTH, HEIGHT = 384, 288  # small enough for the main job's five minutes on two cores
FOLDER = Path(__file__).parent / "pocket_images"

# id → kind and strength in the units of `degrade` (JPEG: 100 − quality); the cluster is what stands before the "+"
_PICTURES: dict[str, tuple[str, float] | None] = {
    "astronaut": None,
    "astronaut+jpeg30": ("jpeg", 70),
    "brushes": None,
    "brushes+noise8": ("noise", 8),
    "china": None,
    "china+jpeg10": ("jpeg", 90),
    "coffee": None,
    "coffee+blur2": ("blur", 2),
    "dandelion": None,
    "dandelion+noise50": ("noise", 50),
    "dogs": None,
    "dogs+noise30": ("noise", 30),
    "drum+dark70": ("dark", 0.7),
    "fig": None,
    "fig+blur1": ("blur", 1),
    "hills": None,
    "hills+dark40": ("dark", 0.4),
    "mountain": None,
    "mountain+blur5": ("blur", 5),
    "rocket": None,
    "rocket+noise15": ("noise", 15),
    "stream": None,
    "stream+blur3": ("blur", 3),
    "sunset+jpeg5": ("jpeg", 95),
}


@dataclass(frozen=True, kw_only=True, repr=False)
class PocketImages(ImageSet):
    name = "pocket"

    crop: int | None = None  # side in pixels; none: the whole 384×288

    def __post_init__(self) -> None:
        if self.crop is not None and not 1 <= self.crop <= HEIGHT:
            raise SpecError(f"pocket: expected crop from 1 to {HEIGHT} pixels or none, found {self.crop}")

    def items(self) -> list[ImageItem]:
        return [ImageItem(id=id, cluster=id.partition("+")[0]) for id in _PICTURES]

    def read(self, item: ImageItem) -> np.ndarray:
        if item.id not in _PICTURES:
            raise ImageError(f"pocket: no picture {item.id!r}{nearest(item.id, _PICTURES)}; see PocketImages().items()")
        picture = _photograph(item.id.partition("+")[0])
        change = _PICTURES[item.id]
        if change is not None:
            picture = degrade(picture, *change, seed=zlib.crc32(item.id.encode()))
        return picture if self.crop is None else _middle(picture, self.crop, self.crop)


def _photograph(name: str) -> np.ndarray:
    path = FOLDER / f"{name}.jpg"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: expected a packaged picture, {error.strerror}; install iqarena again") from None
    found = hashlib.sha256(data).hexdigest()
    if found != _sha256s()[path.name]:
        raise ImageError(f"{path}: expected sha256 {_sha256s()[path.name]}, found {found}; install iqarena again")
    picture = decode(data, str(path))
    return _middle(picture, HEIGHT, WIDTH)


def _middle(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


@cache
def _sha256s() -> dict[str, str]:
    with (FOLDER / "pictures.csv").open(newline="", encoding="utf-8") as file:
        return {row["file"]: row["sha256"] for row in csv.DictReader(file)}
