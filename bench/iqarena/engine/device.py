"""The name of a device as torch takes it."""

from __future__ import annotations

import re

import torch

from iqarena.errors import SpecError


def checked_device(name: object) -> str:
    """``cpu``, ``cuda``, ``cuda:1`` … as they are, ``auto`` as a GPU if there is one; raises :class:`SpecError`."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not isinstance(name, str) or not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise SpecError(f"device: expected auto, cpu, cuda or cuda:N, found {name!r}")
    there = torch.cuda.device_count()
    if name != "cpu" and int(name.partition(":")[2] or 0) >= there:
        raise SpecError(f"device {name}: torch sees {there} GPUs here; choose cpu or auto")
    return name
