"""What the tests of runs share: a folder of small images, a suite of toy scorers, the command line."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from toyruns import SUITE, Answer, draw_nothing, numbers, paint

from iqarena.cli import entry
from iqarena.files.progress import QUIET
from iqarena.runner.driver import Options, run_plan
from iqarena.store.folder import Store
from iqarena.suite.file import load_suite
from iqarena.suite.plan import Plan, resolve

_connect = socket.socket.connect  # before it is taken from the tests


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets to servers on this machine, and to no other."""

    def connect(self: socket.socket, address: tuple[str, int]) -> None:
        assert address[0] == "127.0.0.1"
        _connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five images of two sizes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(5):
        paint(folder / f"p{i}.png", i, (40, 32) if i % 2 else (33, 47))
    return folder


@pytest.fixture
def suite(tmp_path: Path, photos: Path) -> Path:
    path = tmp_path / "toy.toml"
    path.write_text(SUITE.format(photos=photos.as_posix()))
    return path


@pytest.fixture
def plan(suite: Path) -> Plan:
    return resolve(load_suite(str(suite)))


@pytest.fixture
def iqarena(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """The command line in this process; plots are not drawn."""
    draw_nothing(monkeypatch.setattr)
    monkeypatch.setenv(QUIET, "")  # --quiet sets it

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            entry([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Answer(int(stopped.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def results(tmp_path: Path) -> Callable[..., pd.DataFrame]:
    """Rows of a plan run with some options into a new folder."""
    runs = iter(range(1000))

    def run(plan: Plan, **options: object) -> pd.DataFrame:
        store = Store(tmp_path / f"run{next(runs)}")
        run_plan(plan, store, Options(**options))  # pyright: ignore[reportArgumentType]
        return numbers(store)

    return run
