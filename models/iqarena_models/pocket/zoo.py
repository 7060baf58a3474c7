"""Two scorers of the first zoo, until their successors are trained: which network, which weights file, checked by hash.

Imports no torch.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from iqarena.api import Model, WeightsError

if TYPE_CHECKING:
    from iqarena_models.pocket.net import PocketNet

WEIGHTS = Path(str(files("iqarena_models"))) / "pocket" / "weights"


@dataclass(frozen=True, kw_only=True, repr=False)
class PocketModel(Model):
    """``<name>.safetensors`` holds the weights, ``<name>.json`` their hash and facts, ``<name>.md`` the model card."""

    min_size = 64
    network: ClassVar[str]

    @property
    def facts(self) -> dict[str, Any]:
        return _facts(self.name) | {"trained_on": "BIQ2021", "input": "halved"}

    @property
    def backbones(self) -> tuple[str, ...]:
        return () if self.facts["backbone"] == "none" else (self.facts["backbone"],)

    @property
    def weights_sha256(self) -> str:
        return self.facts["sha256"]

    def load(self) -> PocketNet:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load

        from iqarena_models.pocket.net import fold

        path = WEIGHTS / f"{self.name}.safetensors"
        if not path.is_file():
            raise WeightsError(f"expected the weights {path}, found no such file; install iqarena again")
        data = path.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != self.weights_sha256:
            raise WeightsError(
                f"{path}: expected sha256 {self.weights_sha256[:12]}…, found {found[:12]}…; install iqarena again"
            )
        module, _, name = self.network.partition(":")
        with torch.random.fork_rng(devices=[]):  # building draws initial weights; the caller's stream stays as it was
            net: PocketNet = getattr(importlib.import_module(module), name)()
        try:
            net.load_state_dict({key: value.float() for key, value in load(data).items()})
        except (SafetensorError, RuntimeError) as error:
            raise WeightsError(f"{path}: expected safetensors of {name}: {error}; install iqarena again") from None
        return fold(net.eval())


@dataclass(frozen=True, kw_only=True, repr=False)
class Cnn(PocketModel):
    """Plain convolutions on local contrast, trained from scratch (CNNIQA's idea)."""

    name = "cnn"
    network = "iqarena_models.pocket.cnn:CnnNet"


@dataclass(frozen=True, kw_only=True, repr=False)
class Bilinear(PocketModel):
    """Two streams, content and distortion, joined by an outer product (DBCNN's idea)."""

    name = "bilinear"
    network = "iqarena_models.pocket.bilinear:BilinearNet"


@cache
def _facts(name: str) -> dict[str, Any]:
    path = WEIGHTS / f"{name}.json"
    if not path.is_file():
        raise WeightsError(f"expected the facts {path}, found no such file; install iqarena again")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path}: expected JSON: {error}; install iqarena again") from None
