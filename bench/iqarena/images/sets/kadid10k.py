"""``kadid10k`` — KADID-10k: 81 reference images, each with 25 kinds of artificial distortion at five levels.

Lin, Hosu, Saupe, "KADID-10k: A Large-scale Artificially Distorted IQA Database", QoMEX 2019. The folder holds
``dmos.csv`` (columns dist_img, ref_img, dmos, var) and ``images``. In spite of its name the dmos column grows with
quality (1–5, higher = better), so it is taken as it is. The undistorted images carry no score and are left out;
images of one reference image are one cluster.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from iqarena.api import ImageItem
from iqarena.images.sets.database import Database
from iqarena.images.sets.table import finite, read_csv


@dataclass(frozen=True, kw_only=True, repr=False)
class Kadid10k(Database):
    name = "kadid10k"
    title = "KADID-10k, Konstanz Artificially Distorted Image quality Database (2019)"
    home = "http://database.mmsp-kn.de/kadid-10k-database.html"
    terms = "images from Pixabay; the terms of the database are on its page; cite the paper"
    layout = ("dmos.csv", "images/")
    splits = {"all": 10125}
    pixels = (512, 384)

    def entries(self, root: Path) -> Iterable[ImageItem]:
        path = root / "dmos.csv"
        for number, row in enumerate(read_csv(path, ["dist_img", "ref_img", "dmos"]), start=1):
            name = row["dist_img"]
            mos = finite(row["dmos"], f"{path} row {number}", name)
            yield ImageItem(id=name, cluster=row["ref_img"], mos=mos)

    def file(self, id: str) -> str:
        return f"images/{id}"
