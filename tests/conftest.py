"""Shared set-up: no network, the toy scorers registered, deterministic algorithms."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch

from iqarena.registry import tables as registry

registry.add_file(Path(__file__).with_name("toys.py"))
torch.use_deterministic_algorithms(True)
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise RuntimeError("a test opened a socket to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
