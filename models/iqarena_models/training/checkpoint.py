"""What a training goes on from when it was killed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iqarena.api import write_atomically
from iqarena_models.common_scale import read_tensors


@dataclass
class State:
    """Network, optimiser, the tensors that will be kept (the network's own if empty) and one log entry an epoch."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    run: list[Any]  # what it is a training of
    kept: dict[str, Tensor] = field(default_factory=dict)
    log: list[dict[str, float]] = field(default_factory=list)

    def keep(self) -> None:
        """Keep the network as it is now."""
        self.kept = {key: value.clone() for key, value in self.net.state_dict().items()}

    def average(self, decay: float) -> None:
        """Move the kept tensors towards the network's."""
        if not self.kept:
            self.keep()
        for key, value in self.net.state_dict().items():
            if value.is_floating_point():
                self.kept[key].lerp_(value, 1 - decay)
            else:
                self.kept[key].copy_(value)

    @contextmanager
    def kept_weights(self) -> Iterator[None]:
        """The network with what is kept, for a while."""
        own = {key: value.clone() for key, value in self.net.state_dict().items()}
        self.net.load_state_dict(self.kept or own)
        try:
            yield
        finally:
            self.net.load_state_dict(own)

    @property
    def best(self) -> int:
        """The epoch, counted from 1, with the highest validation SROCC; 0 before the first."""
        return int(np.argmax(np.nan_to_num([entry["srocc"] for entry in self.log], nan=-1))) + 1 if self.log else 0

    def store(self, path: Path) -> None:
        """Write a checkpoint, completely or not at all; raises ``StoreError`` where the disk is full."""
        saved = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}
        saved |= {"kept": self.kept, "log": self.log, "run": self.run}
        buffer = io.BytesIO()
        torch.save(saved, buffer)
        write_atomically(path, buffer.getvalue())

    def resume(self, path: Path) -> None:
        """Load a checkpoint of the same training, if there is one; raises ``WeightsError`` for a broken file."""
        if not path.exists():
            return
        saved = read_tensors(path)
        if saved.get("run") != self.run:
            return
        self.net.load_state_dict(saved["net"])
        self.optimizer.load_state_dict(saved["optimizer"])
        device = next(self.net.parameters()).device
        self.kept, self.log = {key: value.to(device) for key, value in saved["kept"].items()}, saved["log"]
