"""``folder`` — any folder of images, with or without opinion scores.

Images are the files directly in ``path`` with an image's suffix, sorted by name; their id is the file name.
With ``csv`` (columns ``image, mos`` and, where images share a reference image, ``cluster``) the set is exactly
the images that the table names; without a cluster each image is its own. ``split`` keeps only the rows whose
column of that name says so, ``order = "table"`` leaves them in its order, of which a suite's ``limit`` takes the first;
``crop`` takes the middle of every image, ``crop`` pixels a side.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from iqarena.api import ImageError, ImageItem, ImageSet, SpecError
from iqarena.errors import nearest
from iqarena.images.decode import SUFFIXES, centre, decode_file, stamp
from iqarena.images.sets.table import close, finite, read_csv


@dataclass(frozen=True, kw_only=True, repr=False)
class FolderImages(ImageSet):
    name = "folder"

    path: str
    csv: str | None = None
    split: str | None = None
    crop: Annotated[int, Ge(1)] | None = None
    order: Literal["name", "table"] = "name"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split is not None and self.csv is None:
            raise SpecError(f"folder: expected a csv with a column split beside split={self.split!r}, found none")
        if self.order not in ("name", "table") or (self.order == "table" and self.csv is None):
            raise SpecError(f"folder: expected order 'name', or 'table' with a csv, found {self.order!r}")

    def items(self) -> list[ImageItem]:
        names = _images(Path(os.path.expanduser(self.path)))
        if self.csv is None:
            return [ImageItem(id=name, cluster=name) for name in names]
        items = _table(Path(os.path.expanduser(self.csv)), names, self.split)
        return items if self.order == "table" else sorted(items, key=lambda item: item.id)

    def stamp(self, item: ImageItem) -> str:
        return stamp(self._file(item))

    def read(self, item: ImageItem) -> np.ndarray:
        path = self._file(item)
        return centre(decode_file(path), self.crop, str(path))

    def _file(self, item: ImageItem) -> Path:
        return Path(os.path.expanduser(self.path)) / item.id


def _images(folder: Path) -> list[str]:
    if not os.path.isdir(folder):  # unlike pathlib's it takes every name
        present = "a file" if os.path.exists(folder) else "nothing there"
        try:
            siblings = [p.name for p in folder.parent.iterdir() if p.is_dir()]
        except (OSError, ValueError):  # not there either
            siblings = []
        raise ImageError(
            f"{folder}: expected a folder of images, found {present}{close(folder.name, siblings)}; "
            "set path, or --images, to an existing folder"
        )
    try:
        with os.scandir(folder) as entries:
            files = [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    except OSError as error:
        raise ImageError(f"{folder}: expected a folder of images, cannot be listed: {error.strerror}") from None
    names = sorted(name for name in files if Path(name).suffix.lower() in SUFFIXES)
    if not names:
        raise ImageError(
            f"{folder}: expected images ({', '.join(SUFFIXES)}), found none among {len(files)} files; "
            "subfolders are not searched, set path to the folder that holds the files"
        )
    return names


def _table(path: Path, present: list[str], split: str | None) -> list[ImageItem]:
    rows = read_csv(path, ["image", "mos"] + ["split"] * (split is not None))
    items: dict[str, ImageItem] = {}
    known = set(present)
    for number, row in enumerate(rows, start=1):
        if split is not None and row["split"] != split:
            continue
        name = row["image"] or ""
        where = f"{path} row {number}"
        if name not in known:
            raise ImageError(
                f"{where}: expected an image in the folder, found {name!r}{close(name, present)}; mend the row"
            )
        if name in items:
            raise ImageError(f"{where}: expected each image once, found {name!r} again; keep one of its rows")
        items[name] = ImageItem(id=name, cluster=row.get("cluster") or name, mos=finite(row["mos"], where, name))
    if not items:
        named = sorted({row["split"] or "" for row in rows})  # a short row has none
        raise ImageError(f"{path}: expected rows with split {split!r}, found none{nearest(str(split), named)}")
    return list(items.values())
