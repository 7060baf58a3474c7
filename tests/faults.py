"""Attacks that bring their process down, or never end, on images that are 40 pixels wide; fine on all others."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from iqarena.api import Attack, Source, Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class Faulty(Attack):
    """One FGSM step, before it fails."""

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        adversarial = x + self.eps * source.gradient(x).sign()
        if x.shape[-1] == 40:
            self.fail()
        return adversarial

    def fail(self) -> None: ...


class Exits(Faulty):
    name = "exits"

    def fail(self) -> None:
        sys.exit(5)


class Dies(Faulty):
    name = "dies"

    def fail(self) -> None:
        os._exit(7)


class Segfaults(Faulty):
    name = "segfaults"

    def fail(self) -> None:
        ctypes.string_at(0)


class Sleeps(Faulty):
    """Touches the file that ``IQARENA_TEST_ASLEEP`` names as long as it lives."""

    name = "sleeps"

    def fail(self) -> None:
        while True:
            if file := os.environ.get("IQARENA_TEST_ASLEEP"):
                Path(file).touch()
            time.sleep(0.1)


class Forks(Sleeps):
    """Dies and leaves a child behind that sleeps."""

    name = "forks"

    def fail(self) -> None:
        if not os.fork():
            super().fail()
        os._exit(7)


class Colourful(Faulty):
    name = "colourful"

    def fail(self) -> None:
        raise ValueError("\x1b[31mred\x1b[0m\x07 \x1b]0;title\x07and\x1b[2K\n\tblue \udcff\x9b1m")
