"""A watch over the weights of a loaded module, at the price of a few operations a look.

Of every parameter and buffer up to ``SAMPLES`` evenly spaced values are compared with those that were loaded. A
counter of writes would be cheaper still, but ``tensor.data`` and ``tensor.numpy()`` pass it by.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import is_not
from typing import Any

import torch
from torch import Tensor, nn

SAMPLES = 256  # of each tensor; a smaller one is looked at as a whole


class WeightsWatch:
    """A snapshot of a module's weights, a sample of each tensor, taken at construction."""

    def __init__(self, module: nn.Module) -> None:
        self._names = {name for name, *_ in _stored(module)}  # what a scorer adds later is no weight
        self._look_at(module)
        self._loaded = self._now().cpu()

    def intact(self, module: nn.Module) -> bool:
        """Whether those of ``module`` are the same still, on whatever device."""
        if (
            module is not self._module
            or any(map(is_not, map(dict.get, self._owners, self._keys), self._tensors))
            or list(map(Tensor.data_ptr, self._tensors)) != self._places
        ):
            self._look_at(module)
        now = self._now()
        if self._loaded.device != now.device:
            self._loaded = self._loaded.to(now.device)
        return torch.equal(now, self._loaded) or bool(
            now.shape == self._loaded.shape and ((now == self._loaded) | (now.isnan() & self._loaded.isnan())).all()
        )

    def _look_at(self, module: nn.Module) -> None:
        self._module = module
        found = [(owner, key, tensor) for path, owner, key, tensor in _stored(module) if path in self._names]
        self._owners = [owner for owner, _, _ in found]
        self._keys = [key for _, key, _ in found]
        self._tensors = [tensor for _, _, tensor in found]
        self._places = list(map(Tensor.data_ptr, self._tensors))
        self._views = list(map(_sample, self._tensors))

    def _now(self) -> Tensor:
        return torch.cat(self._views) if self._views else torch.empty(0)


def _stored(module: nn.Module) -> Iterator[tuple[str, dict[str, Any], str, Tensor]]:
    """Parameters and buffers, each with its path and where it stands."""
    for path, part in module.named_modules():
        for owner in (part._parameters, part._buffers):
            for name, tensor in owner.items():
                if tensor is not None and tensor.numel():
                    yield f"{path}.{name}", owner, name, tensor


def _sample(tensor: Tensor) -> Tensor:
    """A view of evenly spaced values, in the order in which they lie in memory."""
    there = tensor.untyped_storage().nbytes() // tensor.element_size() - tensor.storage_offset()
    count = min(tensor.numel(), there)
    step = -(-count // SAMPLES)
    return tensor.detach().as_strided((-(-count // step),), (step,))
