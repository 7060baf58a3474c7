"""``biq2021`` — BIQ2021: 12,000 images with authentic faults, rated by thirty observers.

Ahmed, Asif, "BIQ2021: A Large-Scale Blind Image Quality Assessment Database", Journal of Electronic Imaging 31(5),
2022 (arXiv 2202.03879). The folder is the authors' repository: ``Images`` and the tables ``Train.csv`` and
``Test.csv``, in older copies ``Train (Images and MOS).csv`` and ``Test (Images and MOS).csv`` (columns Image Name,
MOS; MOS on 0–1, higher = better). ``split`` is test, train or all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from iqarena.api import ImageItem
from iqarena.images.sets.database import Database
from iqarena.images.sets.table import finite, read_csv

OLDER = " (Images and MOS)"


@dataclass(frozen=True, kw_only=True, repr=False)
class Biq2021(Database):
    name = "biq2021"
    title = "BIQ2021, A Large-Scale Blind Image Quality Assessment Database (2021)"
    home = "https://github.com/nisarahmedrana/BIQ2021"
    terms = "published for research, without a licence file: use it, do not pass the images on; cite the paper"
    layout = ("Train.csv", "Test.csv", f"Train{OLDER}.csv", f"Test{OLDER}.csv", "Images/")
    splits = {"test": 2000, "train": 10000, "all": 12000}

    split: str = "test"

    def entries(self, root: Path) -> Iterable[ImageItem]:
        for part in ("Train", "Test") if self.split == "all" else (self.split.capitalize(),):
            older = root / f"{part}{OLDER}.csv"
            path = older if older.is_file() else root / f"{part}.csv"
            for number, row in enumerate(read_csv(path, ["Image Name", "MOS"]), start=1):
                name = row["Image Name"]
                yield ImageItem(id=name, cluster=name, mos=finite(row["MOS"], f"{path} row {number}", name))

    def file(self, id: str) -> str:
        return f"Images/{id}"
