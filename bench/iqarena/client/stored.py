"""``iqarena.load``: a stored run as data frames, boards and comparisons."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from iqarena.errors import SpecError
from iqarena.files.place import place

if TYPE_CHECKING:
    import pandas as pd

    from iqarena.report.pairs import Pairs
    from iqarena.store.folder import Store
    from iqarena.store.manifest import Manifest


def load(folder: str | PathLike[str]) -> Run:
    """A stored run; raises ``StoreError`` for a folder or URL that holds none. Needs no torch."""
    stored = Run(place(folder))
    stored.manifest  # noqa: B018 (raises)
    return stored


@dataclasses.dataclass(frozen=True)
class Run:
    """A run in ``folder``. Frames are read and worked out when they are first asked for; nothing here needs torch."""

    folder: Path

    @cached_property
    def manifest(self) -> Manifest:
        """What was run, on what, with which versions."""
        return self._store.manifest()

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One line per attack, source, target, image and repeat: what everything else is worked out from."""
        return self._store.rows()

    @cached_property
    def pair_samples(self) -> Pairs:
        """The pairs with their bootstrap samples, for statistics of your own."""
        from iqarena.report.pairs import pair_table

        searched = [one.spec for one in self.manifest.attacks if one.searched]
        return pair_table(self.rows[~self.rows["attack"].isin(searched)], self.manifest.declared)

    @property
    def _store(self) -> Store:
        from iqarena.store.folder import Store

        return Store(self.folder)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """One line per attack, source and target, with 95 % intervals; its columns are those of ``pairs.csv``."""
        return self.pair_samples.table

    @cached_property
    def attacks(self) -> pd.DataFrame:
        """The leaderboard of attacks, strongest first; its columns are those of ``leaderboard_attacks.csv``."""
        from iqarena.report.boards import attack_board

        return attack_board(self.pair_samples, self.manifest.declared)

    @cached_property
    def models(self) -> pd.DataFrame:
        """The leaderboard of targets, most robust first; its columns are those of ``leaderboard_models.csv``."""
        from iqarena.report.boards import model_board

        return model_board(self.pair_samples, self.manifest.declared)

    @property
    def failed(self) -> pd.DataFrame:
        """The rows that have no numbers; ``message`` says why."""
        return self.rows[self.rows["status"] == "error"]

    @property
    def finished(self) -> bool:
        """Whether no planned row is missing (failed rows count as present)."""
        return bool(self.manifest.finished)

    @property
    def complete(self) -> bool:
        """Whether no row is missing and none failed."""
        return self.finished and not len(self.failed)

    def report(self, out: str | PathLike[str] | None = None) -> str:
        """Write tables, plots and page into ``out`` (the run's folder when left out); returns the boards as text."""
        from iqarena.report import derive
        from iqarena.store.schema import COLUMNS, HASHES

        seen = "rows" in vars(self)
        rows = self.rows if seen else self._store.rows([name for name in COLUMNS if name not in HASHES], lean=True)
        return derive(rows, self.manifest, place(out or self.folder), self.folder / "gallery")

    def boards(self) -> str:
        """The boards of a finished run as text; :meth:`report` makes them, unless the run's folder holds its own."""
        from iqarena.report.kept import keep, kept

        if (text := kept(self.manifest, self.folder)) is None:
            keep(text := self.report(), self.manifest, self.folder)
        return text

    def compare(self, first: str, second: str | None = None) -> str:
        """Does attack ``first`` beat ``second`` (labels or specs)? On all targets and on each: paired, interval and p.

        ``second`` is the suite's reference attack when left out. Raises ``SpecError`` for an attack that the run does
        not have (with the nearest).
        """
        from iqarena.report.studies.compare import comparison
        from iqarena.report.text.documents import terminal

        second = second or self.manifest.reference
        if not second:
            raise SpecError("expected a second attack, found none; the suite of this run names no reference")
        return terminal([comparison(self.pair_samples, first, second)]).strip()
