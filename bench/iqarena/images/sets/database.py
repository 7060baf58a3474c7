"""What published image databases share: where a copy lies, whether it is whole, and which part of an image is taken.

A copy is looked for in ``path``, or else in ``$IQARENA_DATA/<name>`` (without that variable in ``data/<name>`` in
iqarena's cache): there, or in a folder directly inside it, as archives unpack. Its score table says which images belong
to it; a set of which one is missing is refused as a whole. Nothing is ever downloaded: most sets are had by asking
their authors.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from iqarena.api import ImageError, ImageItem, ImageSet, SpecError
from iqarena.errors import nearest
from iqarena.files.cache import cache_folder
from iqarena.images.decode import centre, decode_file, stamp


def data_folder() -> Path:
    """Where sets are looked for by name."""
    given = os.environ.get("IQARENA_DATA")
    return Path(given).expanduser() if given else cache_folder() / "data"


@dataclass(frozen=True, kw_only=True, repr=False)
class Database(ImageSet):
    """A set in its authors' own layout.

    ``crop`` takes the middle ``crop`` × ``crop`` pixels of every image; None takes it whole. Opinion scores are of
    the whole image either way.
    """

    title: ClassVar[str]
    home: ClassVar[str]  # where it is had
    terms: ClassVar[str]  # under which terms, as far as we are sure
    layout: ClassVar[tuple[str, ...]]  # what lies in its folder; the first that is no folder marks it
    splits: ClassVar[dict[str, int]] = {}  # published number of images of each part
    pixels: ClassVar[tuple[int, int] | None] = None  # width and height, where all images have the same
    sha256: ClassVar[dict[str, str]] = {}  # of files of the release that were at hand

    path: str | None = None
    split: str = "all"
    crop: Annotated[int, Ge(1)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split not in self.splits:
            raise SpecError(f"{self.name}: unknown split {self.split!r}{nearest(self.split, self.splits)}")

    @abstractmethod
    def entries(self, root: Path) -> Iterable[ImageItem]:
        """Images of the chosen split in the table's order; raises :class:`ImageError` for a damaged table."""

    @abstractmethod
    def file(self, id: str) -> str:
        """Place of an image in the set's folder."""

    @property
    def folder(self) -> Path:
        """Where the set is looked for."""
        return Path(os.path.expanduser(self.path)) if self.path else data_folder() / self.name

    @property
    def published(self) -> int:
        """Number of images that the chosen split has as published."""
        return self.splits[self.split]

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of every image as published; None where they differ."""
        return self.pixels

    @cached_property
    def root(self) -> Path:
        """The folder with the set's own files; raises :class:`ImageError` saying where they are had."""
        marks = [name for name in self.layout if not name.endswith("/")]
        here = os.path.isdir(self.folder)  # unlike pathlib's it takes every name
        inside = sorted(p for p in self.folder.iterdir() if p.is_dir()) if here else []
        for place in (self.folder, *inside):
            if any((place / mark).is_file() for mark in marks):
                return place
        there = "a folder without it" if here else "a file" if os.path.exists(self.folder) else "nothing there"
        raise ImageError(
            f"{self.folder}: expected {self.name} with {' or '.join(marks)}, found {there}; get it from {self.home} "
            f"and unpack it there, or name its folder with --images; see: iqarena fetch data {self.name}"
        )

    def items(self) -> list[ImageItem]:
        return list(self._items)

    def stamp(self, item: ImageItem) -> str:
        return stamp(self.root / self.file(item.id))

    def read(self, item: ImageItem) -> np.ndarray:
        path = self.root / self.file(item.id)
        image = decode_file(path)
        if self.size not in (None, found := (image.shape[1], image.shape[0])):
            wanted = "×".join(map(str, self.size or ()))
            raise ImageError(f"{path}: expected {wanted} pixels as published, found {found[0]}×{found[1]}")
        return centre(image, self.crop, str(path))

    @cached_property
    def _items(self) -> list[ImageItem]:
        items = list(self.entries(self.root))
        seen: set[str] = set()
        for item in items:
            if item.id in seen:
                raise ImageError(
                    f"{self.root}: expected each image of {self.name} once in its table, found {item.id!r} twice;"
                    " unpack the table again"
                )
            seen.add(item.id)
        missing = [path for item in items if not (self.root / (path := self.file(item.id))).is_file()]
        if missing:
            more = ", …" if len(missing) > 3 else ""
            raise ImageError(
                f"{self.root}: expected {len(items)} images of {self.name}, {len(missing)} are missing: "
                f"{', '.join(missing[:3])}{more}; unpack the set again, all of its archives"
            )
        if not items:
            raise ImageError(
                f"{self.root}: expected images of {self.name}, its table names none for split={self.split}"
                f"{nearest('', [split for split in self.splits if split != self.split])}"
            )
        return items
