"""Which numbers of two runs differ: for reruns on another machine, or after a change that should change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from iqarena.store.folder import Store
from iqarena.store.schema import CRAFTED, NAMES, SCORED, TIMES
from iqarena.store.union import differences, renamed, renamed_rows

TEXTS = ["status", "message", "sha256", "image_sha256", "relation", "cluster"]
NUMBERS = ["mos", *(name for name in [*CRAFTED, *SCORED] if name not in TIMES)]


@dataclass(frozen=True)
class ColumnDifference:
    """``rows`` in which a column differs; ``largest`` is the largest absolute difference of two numbers, if there is
    one, and ``where`` names the row that has it (the first row that differs, where there is none)."""

    column: str
    rows: int
    largest: float | None
    where: str


@dataclass(frozen=True)
class RunDifference:
    """What differs between two runs; ``settings`` are words, as a setting may differ and no number with it."""

    compared: int  # rows that both have
    only: tuple[int, int]  # rows that only the first, only the second has
    columns: tuple[ColumnDifference, ...]
    settings: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether both have the same rows with the same numbers and texts, times apart."""
        return self.only == (0, 0) and not self.columns


def diff(one: Path, other: Path) -> RunDifference:
    """Compare the rows of two run folders of the same names: image, repeat, attack, source and target.

    Keys and times are left out. Numbers are compared exactly, and an empty number equals an empty one. Raises
    ``StoreError`` for a folder that holds no run. Needs no torch.
    """
    stores = Store(one), Store(other)
    first, second = (store.manifest() for store in stores)
    rows = [renamed_rows(stores[0].rows(), renamed(first, second)), stores[1].rows()]
    a, b = (frame.set_index(NAMES).sort_index() for frame in rows)
    both = a.index.intersection(b.index)
    a_both, b_both = a.loc[both], b.loc[both]
    columns = [_column(name, a_both[name], b_both[name]) for name in [*TEXTS, *NUMBERS]]
    return RunDifference(
        len(both),
        (len(a) - len(both), len(b) - len(both)),
        tuple(column for column in columns if column.rows),
        tuple(differences(first, second, ("in the first", "in the second"))),
    )


def _column(name: str, a: pd.Series, b: pd.Series) -> ColumnDifference:
    apart = ((a != b) & ~(a.isna() & b.isna())).to_numpy()
    if not apart.any():
        return ColumnDifference(name, 0, None, "")
    at, largest = int(apart.argmax()), None
    if name in NUMBERS:
        sizes = (a - b).abs().to_numpy(float)
        if not np.isnan(sizes).all():
            at = int(np.nanargmax(sizes))
            largest = float(sizes[at])
    image, repeat, attack, source, target = a.index[at]
    where = f"{attack} from {source} on {target}, image {image}" + (f", repeat {repeat}" if repeat else "")
    return ColumnDifference(name, int(apart.sum()), largest, where)
