"""Which scorers are on a GPU: all that work there, as long as its memory holds them.

When a device's memory runs out, all other scorers leave it, and from then on it holds one at a time: a scorer comes
back when it is asked, and the one before it leaves first. When that is not enough, the micro-batch is halved for good.
None of this changes what is computed for an image (a GPU's algorithm for smaller batches may round the last digits
differently).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar
from weakref import WeakSet

import torch
from torch import nn

from iqarena.api import ImageError, Model

CUDA_BATCH = 16
_on_device: WeakSet[Resident] = WeakSet()
_short: set[torch.device] = set()  # devices whose memory did not hold all scorers of this process
_gpu_turn = threading.RLock()  # nobody may be sent away while it works

T = TypeVar("T")


class Resident:
    """A model's module, the device that it must be on to work, and ``chunk``, the images in one micro-batch."""

    module: nn.Module

    def __init__(self, model: Model, device: torch.device) -> None:
        self.model = model
        self.device = device
        self.chunk = 1 if device.type == "cpu" else CUDA_BATCH

    def turn(self) -> AbstractContextManager[Any]:
        """Nobody is sent away from a GPU in here."""
        return contextlib.nullcontext() if self.device.type == "cpu" else _gpu_turn

    def left(self) -> None:
        """Its module is not on the device any more."""
        _on_device.discard(self)

    def fitting(self, evaluate: Callable[[], T]) -> T:
        """What ``evaluate`` gives with the module on its device; tried again with more room when memory runs out."""
        with self.turn():
            while True:
                try:
                    if self not in _on_device:
                        if self.device in _short:
                            self._others_leave()
                        self.module.to(self.device)
                        _on_device.add(self)
                    return evaluate()
                except torch.cuda.OutOfMemoryError:
                    if self._others_leave():
                        _short.add(self.device)
                    else:
                        self._halve()

    def _others_leave(self) -> bool:
        """Move every other scorer off this device; whether there was any."""
        others = [other for other in _on_device if other is not self and other.device == self.device]
        for other in others:
            other.module.to("cpu")
            other.left()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return bool(others)

    def _halve(self) -> None:
        if self.chunk == 1:
            raise ImageError(
                f"{self.model!r}: the memory of {self.device} does not hold one image of this size;"
                " reduce large ones (published models take max_side=…) or use --device cpu"
            )
        self.chunk //= 2
