"""What the tests of runs share: a folder of small images, a suite of toy scorers, the command line."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from toyruns import Answer, draw_nothing, numbers, write_suite

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
def suite(tmp_path: Path) -> Path:
    return write_suite(tmp_path)


@pytest.fixture
def photos(suite: Path) -> Path:
    return suite.parent / "photos"


@pytest.fixture
def plan(suite: Path) -> Plan:
    return resolve(load_suite(str(suite)))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Rows of ``plan``, by one worker, one image at a time."""
    folder = tmp_path_factory.mktemp("undisturbed")
    store = Store(folder / "run")
    run_plan(resolve(load_suite(str(write_suite(folder)))), store, Options(workers=1, batch_size=1))
    return numbers(store)


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
