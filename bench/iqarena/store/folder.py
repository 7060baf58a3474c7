"""A run on disk: a manifest, and one row file per image that is either whole or not there; many are packed into one.

A row has names (image, repeat, attack, source, target) and a ``key``, the hash of all that decides its numbers. A row
replaces the one of the same names or the same key, and rows of an image whose pixels have changed take all its older
rows away: an image, weights file or plugin that has changed leaves nothing behind.
A file is written under a temporary name, synced and renamed; what a killed run left half-written is never read, and
what is read has the checksum that it was written with.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from iqarena.errors import StoreError
from iqarena.files.atomic import file_name, is_there, make_folder, plain_errors, write_atomically
from iqarena.store.manifest import Manifest
from iqarena.store.pack import FILE as PACK
from iqarena.store.pack import MANY, as_rows, by_image, joined, read_pack, write_pack
from iqarena.store.rowfile import packed, read
from iqarena.store.schema import BLANK, COLUMNS, NAMES, SCHEMA, in_order, rare_and_empty

_FOLDERS = ("rows", "gallery", "plots", "adversarials", "adversarials/*")
_ROWS = r"[A-Za-z0-9-]*-[0-9a-f]{8}\.parquet"
_TABLES = "pairs|curves|ablation|main_effects|same_ssim|ssim_levels|defenses_by_scorer|leaderboard_[a-z]+"
_FIGURES = "attacks|models|gallery|agreement|main_effects|same_ssim|defenses|cost_gain[a-z_]*|heatmap_[A-Za-z0-9.+_-]+"
_WRITTEN = (  # by a run and its report
    rf"(manifest|settled)\.json|rows\.parquet|rows/{_ROWS}|adversarials/[0-9a-f]{{2}}/[0-9a-f]{{32}}\.zip"
    r"|gallery/gallery\.json|gallery/[A-Za-z0-9-]*-[0-9a-f]{6}__(clean|[A-Za-z0-9-]*-[0-9a-f]{6})\.png"
    rf"|({_TABLES})\.csv|(leaderboard|ablation)\.md|index\.html|report\.json|plots/({_FIGURES})\.(png|svg|jpg)"
)


class Store:
    """Rows and manifest of one run folder. ``written`` counts the row files written through this object."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows_folder = folder / "rows"
        self.written = 0

    def create(self) -> None:
        """Make the folders."""
        make_folder(self.rows_folder)

    def remove_leftovers(self) -> None:
        """Remove the temporary files of killed writers, which is right as long as nobody else holds the folder's lock.

        Whose process wrote them does not matter then, nor on which host: every writer holds the lock.
        """
        with plain_errors(f"cannot clean {self.folder}", self.folder):
            for leftover in self._written(r"\.\d+\.part"):
                leftover.unlink()

    def write(self, image: str, rows: list[dict[str, Any]]) -> None:
        """Add rows of one image to its file, atomically; columns that a row lacks are NaN, or empty for text."""
        keys, pixels = ({row.get(name, "") for row in rows} for name in ("key", "image_sha256"))
        old = [row for row in self.stored(image) if row["key"] not in keys]
        kept = [row for row in old if row["image_sha256"] in pixels or not row["image_sha256"] or pixels == {""}]
        self.replace(image, [*kept, *rows])
        self.written += 1

    def replace(self, image: str, rows: Iterable[Mapping[Any, Any]]) -> None:
        """Make these the rows of one image, atomically; of several of the same names the last counts."""
        named = {tuple(row[name] for name in NAMES): {**BLANK, **row} for row in rows}
        table = pa.Table.from_pylist([named[names] for names in sorted(named)], SCHEMA)
        write_atomically(self._path(image), packed(table))

    def rows(self, columns: Sequence[str] = tuple(COLUMNS), *, lean: bool = False) -> pd.DataFrame:
        """All rows, with these columns; what a row of an earlier version lacks is empty.

        A ``lean`` frame takes a third of the memory: its text is categorical (see
        :func:`~iqarena.store.schema.lean`), and it lacks columns of other suites. Raises
        :class:`StoreError` when there is a manifest that does not name the image of one of them.
        """
        own = self._own(columns)
        tables = read_pack(self.folder, columns) | own
        if self.has_manifest():
            named = {image.id for image in self.manifest().images}
            for image in (hidden := sorted(tables.keys() - named))[:1]:
                more = f", and so for {len(hidden) - 1} more" if len(hidden) > 1 else ""
                file = f"rows/{self._path(image).name}" if image in own else PACK
                raise StoreError(
                    f"{self.folder / 'manifest.json'} names no image {image!r}, but {file} holds"
                    f" {len(tables[image])} rows of it{more}; put back what it named, or remove such files"
                )
        table = joined(tables, columns).select(list(columns))
        del own, tables  # the frame takes their memory over, column by column
        if lean:
            table = table.drop_columns(rare_and_empty(table))
        text = [name for name in table.column_names if COLUMNS[name] is str] if lean else None
        frame = table.to_pandas(split_blocks=True, self_destruct=True, categories=text)
        del table
        pa.default_memory_pool().release_unused()
        return in_order(frame) if lean else frame

    def _own(self, columns: Sequence[str] = tuple(COLUMNS)) -> dict[str, pa.Table]:
        """The rows of each image that has a row file."""
        tables: dict[str, pa.Table] = {}
        for path in self._row_files():
            with suppress(FileNotFoundError):  # it has been packed since
                for image, table in by_image(read(path, columns)).items():
                    if self._path(image) != path:
                        raise StoreError(
                            f"{path}: expected the rows of one image, that of this name, found {image!r};"
                            " remove it and run again"
                        )
                    tables[image] = table
        return tables

    def _row_files(self) -> list[Path]:
        with plain_errors(f"cannot list {self.rows_folder}", self.rows_folder):
            return [path for path in sorted(self.rows_folder.glob("*.parquet")) if re.fullmatch(_ROWS, path.name)]

    def stored(self, image: str) -> list[dict[str, Any]]:
        """The rows of one image, those that failed too."""
        path = self._path(image)
        if is_there(path):
            return as_rows(read(path))
        return as_rows(self._packed[image]) if image in self._packed else []

    @cached_property
    def _packed(self) -> dict[str, pa.Table]:
        """Read on first use. By then this runner holds its lock, and only a runner that is alone packs."""
        return read_pack(self.folder)

    def pack(self) -> None:
        """Put the row files into one, if there are many. Only a runner that is alone may."""
        if len(paths := self._row_files()) < MANY:
            return
        write_pack(self.folder, read_pack(self.folder) | self._own())
        self.__dict__.pop("_packed", None)
        with plain_errors(f"cannot clean {self.folder}", self.folder):
            for path in paths:
                path.unlink()

    def forget(self, images: Collection[str]) -> None:
        """Remove all rows of these images. Only a runner that is alone may."""
        if not self._packed.keys().isdisjoint(images):
            write_pack(self.folder, {image: table for image, table in self._packed.items() if image not in images})
            self.__dict__.pop("_packed")
        with plain_errors(f"cannot clean {self.folder}", self.folder):
            for image in images:
                self._path(image).unlink(missing_ok=True)

    def has_manifest(self) -> bool:
        return is_there(self.folder / "manifest.json")

    def write_manifest(self, manifest: Manifest) -> None:
        manifest.write(self.folder / "manifest.json")

    def manifest(self) -> Manifest:
        if not self.has_manifest():
            raise StoreError(
                f"{self.folder}: expected a run folder, found no manifest.json in it; see: iqarena run pocket"
            )
        return Manifest.read(self.folder / "manifest.json")

    def clear(self) -> None:
        """Forget a run (``--overwrite always``): the files that it and its report write, no other.

        Raises :class:`StoreError`, and removes nothing, when ``manifest.json`` is not iqarena's, or not there beside
        rows, or a folder is a link.
        """
        if not self.has_manifest():
            if self._row_files() or is_there(self.folder / PACK):
                raise StoreError(
                    f"{self.folder}: expected manifest.json beside rows, found none; nothing is removed: move rows/ and"
                    f" {PACK} away, or choose another --out"
                )
            return
        self.manifest()
        with plain_errors(f"cannot clear {self.folder}", self.folder):
            for folder in (path for pattern in _FOLDERS for path in self.folder.glob(pattern) if path.is_symlink()):
                raise StoreError(
                    f"{folder}: expected a folder, found a link; nothing outside {self.folder} is removed:"
                    " remove what is there by hand, or choose another --out"
                )
            for path in sorted(self._written(), key=lambda path: path.name == "manifest.json"):
                path.unlink()  # the manifest last: rows without it would be nobody's

    def _written(self, ending: str = "") -> Iterator[Path]:
        """The files of this folder whose names are those that a run gives, with this ``ending`` (a pattern)."""
        name = re.compile(f"({_WRITTEN}){ending}")
        for pattern in ("*", *(f"{folder}/*" for folder in _FOLDERS)):
            for path in self.folder.glob(pattern):
                if name.fullmatch(path.relative_to(self.folder).as_posix()):
                    yield path

    def _path(self, image: str) -> Path:
        return self.rows_folder / f"{file_name(image, 60, 8)}.parquet"
