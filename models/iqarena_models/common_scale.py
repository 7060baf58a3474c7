"""From native scores to 0–100, and from a checkpoint to a network: what all published scorers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn, serialization
from torch.nn import functional as F

from iqarena.api import WeightsError

Net = TypeVar("Net", bound=nn.Module)


class CommonScale(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1] → ``100 (f − worst) / (best − worst)``, ``f`` the native score.

    A straight line and no clipping: a clipped score has no gradient. With ``max_side``, an image whose longer side
    has more pixels is first reduced to it (bilinear, antialiased), but not below ``min_size`` on the shorter one.
    """

    def __init__(
        self, net: nn.Module, worst: float, best: float, max_side: int | None = None, min_size: int = 1
    ) -> None:
        super().__init__()
        self.net, self.worst, self.best, self.max_side, self.min_size = net, worst, best, max_side, min_size

    def forward(self, x: Tensor) -> Tensor:
        return 100 * (self.net(self._reduced(x)) - self.worst) / (self.best - self.worst)

    def _reduced(self, x: Tensor) -> Tensor:
        sides = x.shape[-2:]
        if self.max_side is None or max(sides) <= self.max_side:
            return x
        scale = min(1.0, max(self.max_side / max(sides), self.min_size / min(sides)))
        return F.interpolate(x, [round(scale * side) for side in sides], mode="bilinear", antialias=True)


def read_checkpoint(path: Path) -> Any:
    """A checkpoint of tensors and plain values; whatever else a pickle may hold is refused, not run."""
    try:
        return serialization.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises nearly anything for damaged bytes
        raise WeightsError(
            f"{path}: expected a checkpoint of tensors: {_reason(path, error)}; get the file again"
        ) from None


def _reason(path: Path, error: Exception) -> str:
    if "GLOBAL" in str(error):
        return "it holds objects that would have to be run"
    head = path.read_bytes()[:12]
    return f"found something that starts with {head!r}" if head[:2] != b"PK" else " ".join(str(error).split())[:120]


def read_tensors(path: Path) -> dict[str, Any]:
    """A checkpoint that is a dictionary."""
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint, dict):
        raise WeightsError(f"{path}: expected a dictionary of tensors, found {type(checkpoint).__name__}")
    return checkpoint


def filled(network: Callable[[], Net], tensors: Mapping[str, Tensor], path: Path) -> Net:
    """A new network with exactly these tensors; building it leaves the global random stream as it was."""
    with torch.random.fork_rng(devices=[]):
        net = network()
    fill(net, tensors, path)
    return net


def fill(net: nn.Module, tensors: Mapping[str, Any], path: Path, *, strict: bool = True) -> None:
    """Load ``tensors``, with or without the ``module.`` that parallel training puts before every name."""
    try:
        net.load_state_dict({key.removeprefix("module."): value for key, value in tensors.items()}, strict=strict)
    except (RuntimeError, AttributeError, TypeError) as error:
        lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
        raise WeightsError(
            f"{path}: expected the parameters of {type(net).__name__}, found another architecture's:"
            f" {(lines[1] if len(lines) > 1 else lines[0])[:160]}"
        ) from None
