"""Finished cells wait for each other only as long as little work is at stake, and none is forgotten."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from iqarena.errors import StoreError
from iqarena.runner import unwritten
from iqarena.runner.unwritten import AT_MOST, Unwritten
from iqarena.store.folder import Store
from iqarena.worker.measure import Result


def result(image: str, key: str, seconds: float) -> Result:
    names = {"image": image, "repeat": 0, "attack": "a", "source": key, "target": "t"}
    return Result([{"key": key, "status": "ok", **names}], seconds=seconds)


def test_quick_cells_are_written_together_and_slow_ones_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    waiting = Unwritten(store)
    for k, (seconds, files) in enumerate([(0.2, 0), (0.2, 0), (0.7, 2), (1.0, 3), (0.2, 3)]):
        waiting.add(result("one" if k != 1 else "two", str(k), seconds * AT_MOST))
        waiting.add(result("one", f"{k} too", 0.0))
        assert store.written == files
    waiting.write()
    assert store.written == 4
    assert sorted(store.rows()["key"]) == sorted([*"01234", *(f"{k} too" for k in range(5))])
    waiting.write()
    assert store.written == 4


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_what_could_not_be_written_is_written_the_next_time(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unwritten, "AT_MOST", 9.0)
    store = Store(tmp_path)
    waiting = Unwritten(store)
    waiting.add(result("one", "a", 1))
    waiting.add(result("two", "b", 1))

    def fails(handle: int) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises((StoreError, KeyboardInterrupt)):
            waiting.add(result("one", "c", 9))
    assert store.rows().empty
    waiting.write()
    assert sorted(store.rows()["key"]) == ["a", "b", "c"]
