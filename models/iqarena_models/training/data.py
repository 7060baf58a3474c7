"""Training data: a folder with ``images/`` and ``mos.csv``, columns ``image, mos, split`` (``train`` or ``val``)."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from iqarena.api import ImageError, progress_bar
from iqarena.images.decode import decode_file

MIN_IMAGES = {"train": 8, "val": 4}  # for the statistics to be defined
CACHE_BYTES = 8_000_000_000  # larger sets are decoded again in every epoch
PREFETCHED = 4  # jobs that are done before they are needed

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Opinions:
    """Files, opinion scores on 0–100 ``(n,)`` float32, and the row numbers of each part."""

    name: str
    files: list[Path]
    mos: np.ndarray
    train: np.ndarray
    val: np.ndarray
    excluded: np.ndarray  # in no split: reported apart
    digest: str  # of the table: names, scores and splits

    def __str__(self) -> str:
        apart = f", {len(self.excluded)} kept apart" if len(self.excluded) else ""
        return (
            f"{self.name}: {len(self.train)} training and {len(self.val)} validation images"
            f" with mean opinion scores{apart} (digest {self.digest})"
        )


def read_opinions(folder: Path, *, limit: int | None = None, leave_out: str | None = None) -> Opinions:
    """Read and check ``folder``; raises ``ImageError`` for unusable data.

    ``limit`` takes the first images of each split, ``leave_out`` keeps the images apart whose name holds that text.
    Opinion scores on 0–1 are mapped to 0–100; those on another scale than these two are refused.
    """
    table = _table(folder / "mos.csv")
    if leave_out:
        apart = table["image"].str.contains(leave_out, regex=False)
        if not apart.any():
            raise ImageError(f"{folder / 'mos.csv'}: expected images whose name holds {leave_out!r}, found none")
        table["split"] = table["split"].where(~apart, "excluded")
    if limit is not None:
        table = table.groupby("split", sort=False).head(limit).reset_index(drop=True)
    _check(table, folder)
    mos = table["mos"].to_numpy(np.float32)
    rows = {split: np.flatnonzero(table["split"] == split) for split in ("train", "val", "excluded")}
    return Opinions(
        Path(os.path.abspath(folder)).name,
        [folder / "images" / name for name in table["image"]],
        mos * (100 if mos.max() <= 1 else 1),
        rows["train"],
        rows["val"],
        rows["excluded"],
        hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()[:16],
    )


def _table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ImageError(f"expected {path} with columns image, mos, split; found no such file")
    try:
        table = pd.read_csv(path, dtype={"image": str})
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: expected a csv with columns image, mos, split; cannot be read: {error}") from None
    if missing := {"image", "mos", "split"} - set(table.columns):
        raise ImageError(f"{path}: expected columns image, mos, split; missing {', '.join(sorted(missing))}")
    table["mos"] = pd.to_numeric(table["mos"], errors="coerce")
    unscored = table.loc[~np.isfinite(table["mos"]), "image"]
    if len(unscored):
        raise ImageError(f"{path}: {len(unscored)} images without an opinion score, the first is {unscored.iloc[0]}")
    known, split = table["split"].isin(["train", "val"]), table["split"].astype(str)
    if not known.all():
        raise ImageError(f"{path}: expected train or val in the column split, found {split[~known].iloc[0]!r}")
    if len(again := table.loc[table["image"].duplicated(), "image"]):
        raise ImageError(f"{path}: expected each image once, found {again.iloc[0]!r} again; keep one of its rows")
    low, high = table["mos"].min(), table["mos"].max()
    if low < 0 or high > 100 or 1 < high <= 10:
        raise ImageError(f"{path}: expected opinion scores on 0–1 or 0–100, found {low:g} to {high:g}; rescale them")
    return table


def _check(table: pd.DataFrame, folder: Path) -> None:
    absent = [name for name in table["image"] if not (folder / "images" / name).is_file()]
    if absent:
        raise ImageError(f"{folder}/images: {len(absent)} images of mos.csv are missing, the first is {absent[0]}")
    for split, least in MIN_IMAGES.items():
        scores = table.loc[table["split"] == split, "mos"]
        if len(scores) < least or scores.nunique() < 2:
            raise ImageError(
                f"{folder / 'mos.csv'}: expected at least {least} images of split {split!r} and unequal scores,"
                f" found {len(scores)}"
            )


class Images:
    """Decoded images, uint8 ``(H, W, 3)``, by row number.

    They are decoded once into one file under ``cache`` and memory-mapped from it, so that an epoch does not wait for
    decoding; sets of more than ``CACHE_BYTES``, and those that the disk has no space for, are decoded when needed.
    Raises ``ImageError`` that names a broken file.
    """

    def __init__(self, files: Sequence[Path], cache: Path, log: Callable[[str], None] = lambda line: None) -> None:
        self.files = files
        stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        stem = cache / f"decoded-{hashlib.sha256(repr(stats).encode()).hexdigest()[:16]}"
        self._pixels, self._shapes = stem.with_suffix(".bin"), stem.with_suffix(".npy")
        self._stored = None
        if not self._open():
            self._fill(log)
            self._open()

    def __getitem__(self, row: int) -> np.ndarray:
        if self._stored is None:
            return decode_file(self.files[row])
        height, width = self.shapes[row]
        end = self._ends[row]
        return self._stored[end - height * width * 3 : end].reshape(height, width, 3)

    def _open(self) -> bool:
        """Whether the cache is there and holds these images, by its length and by the first and the last of them."""
        try:
            self.shapes = np.load(self._shapes)
            self._ends = np.cumsum(self.shapes.prod(1) * 3)
            self._stored = np.memmap(self._pixels, np.uint8, "r", shape=(self._pixels.stat().st_size,))
            if len(self._stored) == self._ends[-1] and all(
                np.array_equal(self[row], decode_file(self.files[row])) for row in (0, -1)
            ):
                return True
        except (OSError, ValueError):  # there is none, or a damaged one
            pass
        self._stored = None
        return False

    def _fill(self, log: Callable[[str], None]) -> None:
        """Write the cache completely or not at all."""
        part = self._pixels.with_suffix(f".{os.getpid()}.part")  # another training may be writing the same
        shapes: list[tuple[int, ...]] = []
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as stream:
                jobs = prefetch(self.files, decode_file)
                for image in progress_bar(jobs, "decoding images", len(self.files), leave=False, disable=None):
                    shapes.append(image.shape[:2])
                    if stream.write(image.tobytes()) and stream.tell() > CACHE_BYTES:
                        return
            part.replace(self._pixels)
            with part.open("wb") as stream:
                np.save(stream, np.array(shapes, np.int64))
            part.replace(self._shapes)
        except OSError as error:
            log(f"images are decoded again in every epoch, {part.parent} cannot hold them: {error.strerror or error}")
        finally:
            with suppress(OSError):
                part.unlink()


def prefetch(jobs: Iterable[Job], make: Callable[[Job], Result]) -> Iterator[Result]:
    """``make`` of each job in order, worked out in threads a few jobs before it is needed."""
    waiting: deque[Future[Result]] = deque()
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(make, job))
                if len(waiting) > max(PREFETCHED, 2 * workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for job in waiting:
                job.cancel()
