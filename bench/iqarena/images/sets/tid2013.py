"""``tid2013`` — Tampere Image Database 2013: 25 reference images, 24 kinds of distortion at five levels.

Ponomarenko et al., "Image database TID2013: Peculiarities, results and perspectives", Signal Processing: Image
Communication 30, 2015. The folder holds ``mos_with_names.txt`` (a score, a blank, a file name on each line; 0–9,
higher = better) and ``distorted_images``. The release writes some names with capitals and others without, and not
always as the table does: ids are lower case, files are found in either writing. Images of one reference image (the name
up to the first underscore) are one cluster.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from iqarena.api import ImageError, ImageItem
from iqarena.images.sets.database import Database
from iqarena.images.sets.table import finite

TABLE = "mos_with_names.txt"


@dataclass(frozen=True, kw_only=True, repr=False)
class Tid2013(Database):
    name = "tid2013"
    title = "TID2013, Tampere Image Database (2013)"
    home = "http://www.ponomarenko.info/tid2013.htm"
    terms = "stated in the readme of the archive; cite one of the papers it names"
    layout = (TABLE, "distorted_images/")
    splits = {"all": 3000}
    pixels = (512, 384)

    def entries(self, root: Path) -> Iterable[ImageItem]:
        path = root / TABLE
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            words = line.split()
            if len(words) != 2:
                raise ImageError(
                    f"{path} line {number}: expected a score and a file name, found {line[:80]!r}; unpack the set again"
                )
            name = words[1].lower()
            mos = finite(words[0], f"{path} line {number}", name)
            yield ImageItem(id=name, cluster=name.partition("_")[0], mos=mos)

    def file(self, id: str) -> str:
        writings = [f"distorted_images/{name}" for name in (id, id.capitalize(), id.upper())]
        return next((name for name in writings if (self.root / name).is_file()), writings[0])
