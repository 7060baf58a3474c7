"""``spaq`` — Smartphone Photography Attribute and Quality: 11,125 images of 66 phones.

Fang, Zhu, Zeng, Ma, Wang, "Perceptual Quality Assessment of Smartphone Photography", CVPR 2020. The folder holds
``Annotations/MOS and Image attribute scores.xlsx`` (columns Image name, MOS and five attributes; MOS on 0–100,
higher = better) and the images in ``TestImage``, most of them far larger than a model likes: take ``crop``, or
scale them down into a folder of your own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from iqarena.api import ImageItem
from iqarena.images.sets.database import Database
from iqarena.images.sets.table import finite
from iqarena.images.sets.workbook import read_sheet

TABLE = "Annotations/MOS and Image attribute scores.xlsx"


@dataclass(frozen=True, kw_only=True, repr=False)
class Spaq(Database):
    name = "spaq"
    title = "SPAQ, Smartphone Photography Attribute and Quality database (2020)"
    home = "https://github.com/h4nwei/SPAQ"
    terms = "education and research only, without fee, with its copyright notice; commercial use needs permission"
    layout = (TABLE, "TestImage/")
    splits = {"all": 11125}

    def entries(self, root: Path) -> Iterable[ImageItem]:
        for row in read_sheet(root / TABLE, ["Image name", "MOS"]):
            name = str(row["Image name"])
            yield ImageItem(id=name, cluster=name, mos=finite(row["MOS"], str(root / TABLE), name))

    def file(self, id: str) -> str:
        return f"TestImage/{id}"
