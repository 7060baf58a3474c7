"""Finished cells on their way to the store: quick ones are written together, since each write is a synced file."""

from __future__ import annotations

from collections import defaultdict

from iqarena.files.atomic import write_atomically
from iqarena.store.folder import Store
from iqarena.worker.measure import Result
from iqarena.worker.work import Row

AT_MOST = 10.0  # seconds of work that a power failure or kill -9 may cost, beside what workers hold back


class Unwritten:
    """Results that took less than ``AT_MOST`` seconds together and are not in ``store`` yet."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._results: list[Result] = []

    def add(self, result: Result) -> None:
        self._results.append(result)
        if sum(each.seconds for each in self._results) >= AT_MOST:
            self.write()

    def write(self) -> None:
        """Write them all, files first: where there is a row there is its image. Raises :class:`StoreError`."""
        by_image: defaultdict[str, list[Row]] = defaultdict(list)
        for result in self._results:
            for path, data in result.files.items():
                write_atomically(path, data, sync=False)
            for row in result.rows:
                by_image[row["image"]].append(row)
        for image, rows in by_image.items():
            self._store.write(image, rows)
        self._results.clear()  # those that an interrupt or a full disk kept from being written are still here
