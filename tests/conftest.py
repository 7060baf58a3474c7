"""Shared set-up: no network, the toy scorers registered, deterministic algorithms."""

from __future__ import annotations

import gc
import socket
from pathlib import Path

import pytest
import torch

from iqarena.registry import tables as registry

registry.add_file(Path(__file__).with_name("toys.py"))
torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms is the same and imports a compiler first
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise RuntimeError("a test opened a socket to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def pytest_collection_finish() -> None:
    """What is imported and collected stays until the end: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
