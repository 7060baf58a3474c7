"""The five scorers as plugins: which network, which weights file, checked by hash. Imports no torch."""

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
    from iqarena_models.zoo.net import ScorerNet

WEIGHTS = Path(str(files("iqarena_models"))) / "zoo" / "weights"


@dataclass(frozen=True, kw_only=True, repr=False)
class ZooModel(Model):
    """``<name>.safetensors`` holds the weights, ``<name>.json`` their hash and facts, ``<name>.md`` the model card."""

    min_size = 64
    network: ClassVar[str]

    @property
    def facts(self) -> dict[str, Any]:
        return _facts(WEIGHTS / f"{self.name}.json") | {"trained_on": "BIQ2021", "input": "any size, as it is"}

    @property
    def backbones(self) -> tuple[str, ...]:
        return () if self.facts["backbone"] == "none" else (self.facts["backbone"],)

    @property
    def weights_sha256(self) -> str:
        return self.facts["sha256"]

    def load(self) -> ScorerNet:
        from safetensors import SafetensorError
        from safetensors.torch import load

        from iqarena_models.common_scale import filled
        from iqarena_models.zoo.net import fold

        path = WEIGHTS / f"{self.name}.safetensors"
        if not path.is_file():
            raise WeightsError(f"expected the weights {path}, found no such file; install iqarena again")
        data = path.read_bytes()
        if (digest := hashlib.sha256(data).hexdigest()) != self.weights_sha256:
            raise WeightsError(
                f"{path}: expected sha256 {self.weights_sha256[:12]}…, found {digest[:12]}…; install iqarena again"
            )
        try:
            tensors = {key: value.float() for key, value in load(data).items()}
        except SafetensorError as error:
            raise WeightsError(f"{path}: expected safetensors: {error}; install iqarena again") from None
        module, _, name = self.network.partition(":")
        return fold(filled(getattr(importlib.import_module(module), name), tensors, path).eval())


@dataclass(frozen=True, kw_only=True, repr=False)
class Cnn(ZooModel):
    """Plain convolutions on local contrast, trained from scratch (CNNIQA's idea)."""

    name = "cnn"
    network = "iqarena_models.zoo.cnn:CnnNet"


@dataclass(frozen=True, kw_only=True, repr=False)
class Bilinear(ZooModel):
    """Two streams, VGG-16 and SqueezeNet, joined by an outer product (DBCNN's idea)."""

    name = "bilinear"
    network = "iqarena_models.zoo.bilinear:BilinearNet"
    channels_last = False  # slower


@dataclass(frozen=True, kw_only=True, repr=False)
class Hyper(ZooModel):
    """A network on a ResNet that writes the weights of the one that rates (HyperIQA's idea)."""

    name = "hyper"
    network = "iqarena_models.zoo.hyper:HyperNet"


@dataclass(frozen=True, kw_only=True, repr=False)
class Linearity(ZooModel):
    """Two depths of an EfficientNet, trained with the norm-in-norm loss (LinearityIQA's idea)."""

    name = "linearity"
    network = "iqarena_models.zoo.linearity:LinearityNet"


@dataclass(frozen=True, kw_only=True, repr=False)
class Vit(ZooModel):
    """A vision transformer that compares with five quality levels (LIQE's idea)."""

    name = "vit"
    network = "iqarena_models.zoo.vit:VitNet"
    channels_last = False  # slower


@cache
def _facts(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise WeightsError(f"expected the facts {path}, found no such file; install iqarena again")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path}: expected JSON: {error}; install iqarena again") from None
