"""``koniq10k`` — KonIQ-10k: 10,073 images from Flickr with authentic faults, rated by a crowd.

Hosu, Lin, Szirányi, Saupe, "KonIQ-10k: An Ecologically Valid Database for Deep Learning of Blind Image Quality
Assessment", IEEE TIP 29, 2020 (arXiv 1910.06180). The folder holds ``koniq10k_distributions_sets.csv`` (columns
image_name, c1…c5, c_total, MOS, SD, set; MOS on 1–100, higher = better) and the images in ``512x384`` or, for
``width=1024``, in ``1024x768``. ``split`` is the authors' own: training, validation, test, or all. The other csv of
the authors, with MOS on 1–5 and no split, is not this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from iqarena.api import ImageError, ImageItem, SpecError
from iqarena.images.sets.database import Database
from iqarena.images.sets.table import finite, read_csv

TABLE = "koniq10k_distributions_sets.csv"


@dataclass(frozen=True, kw_only=True, repr=False)
class Koniq10k(Database):
    name = "koniq10k"
    title = "KonIQ-10k (2018)"
    home = "http://database.mmsp-kn.de/koniq-10k-database.html (csv also: https://github.com/subpic/koniq, metadata/)"
    terms = "images from YFCC100M (Flickr), each under its author's Creative Commons licence; cite the paper"
    layout = (TABLE, "512x384/ or 1024x768/")
    splits = {"test": 2015, "validation": 1000, "training": 7058, "all": 10073}
    sha256 = {TABLE: "d0bd1ad54a60bc36fe172049e46ac76c83554e50ab84acebfd47b82b3e698a0a"}

    split: str = "test"
    width: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width not in (512, 1024):
            raise SpecError(f"koniq10k: expected width 512 or 1024, found {self.width}; the set is had in these two")

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.width * 3 // 4

    def entries(self, root: Path) -> Iterable[ImageItem]:
        for number, row in enumerate(read_csv(root / TABLE, ["image_name", "MOS", "set"]), start=1):
            name, part = row["image_name"], row["set"]
            if part not in self.splits:
                raise ImageError(
                    f"{root / TABLE} row {number}: expected set training, validation or test for {name!r},"
                    f" found {part!r}; download the csv again"
                )
            if self.split in ("all", part):
                yield ImageItem(id=name, cluster=name, mos=finite(row["MOS"], f"{root / TABLE} row {number}", name))

    def file(self, id: str) -> str:
        return f"{self.width}x{self.width * 3 // 4}/{id}"
