"""Published scorers as plugins: a record of the catalogue, its files, and the module that they are loaded into.

``weights`` names a file to be used in place of the published one (looked for in the same folders; its hash is not
checked but is part of every result's identity), for scorers that a group has trained itself. ``max_side`` reduces
larger images before they are scored. Imports neither torch nor pyiqa.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from annotated_types import Ge

from iqarena.api import Model, SpecError, WeightFile, known_sha256, obtain
from iqarena_models.catalog import Metric, catalog, pyiqa_version, weight_file

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True, repr=False)
class Published(Model):
    """A scorer of the catalogue."""

    channels_last = False  # some take tensors apart as if they lay in the ordinary order

    weights: str | None = None
    max_side: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_side is not None and self.max_side < max(self.min_size, 16):
            raise SpecError(f"{self.name}: expected max_side ≥ {max(self.min_size, 16)} pixels, found {self.max_side}")
        if self.weights is not None and not self.metric.files:
            raise SpecError(f"{self.name}: expected no weights, it has no parameters; found {self.weights}")

    def __repr__(self) -> str:
        return self.label

    @property
    def metric(self) -> Metric:
        return catalog()[self.name]

    @property
    def facts(self) -> dict[str, Any]:
        return dataclasses.asdict(self.metric)

    @property
    def reconstructed(self) -> str:
        return self.metric.reconstructed

    @property
    def backbones(self) -> tuple[str, ...]:
        return self.metric.backbones

    @property
    def files(self) -> tuple[WeightFile, ...]:
        published = tuple(weight_file(name) for name in self.metric.files)
        return published if self.weights is None else (WeightFile(self.weights), *published[1:])

    @property
    def weights_sha256(self) -> str:
        hashes = [known_sha256(obtain(file)) for file in self.files]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest() if hashes else ""

    def load(self) -> nn.Module:
        from iqarena_models.common_scale import CommonScale

        paths = dict(zip(self.metric.files, map(obtain, self.files), strict=True))
        return CommonScale(self.build(paths).eval(), *self.metric.ends, self.max_side, self.min_size)

    @abstractmethod
    def build(self, paths: Mapping[str, Path]) -> nn.Module:
        """The module that gives native scores ``(N,)``; ``paths`` has the checked files by their catalogue names."""


@dataclass(frozen=True, kw_only=True, repr=False)
class PyiqaModel(Published):
    """A metric of pyiqa. ``crops`` is another number of views per image than pyiqa's own; ``backbone`` the timm
    network in the place of its backbone, for ``weights`` that were trained so."""

    crops: Annotated[int, Ge(1)] | None = None
    backbone: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crops is not None and not self.metric.crops_option:
            raise SpecError(f"{self.name}: expected no crops, it looks at the whole image; found crops={self.crops}")

    @property
    def backbones(self) -> tuple[str, ...]:
        own = super().backbones
        return (_network(self.backbone), *own[1:]) if self.backbone else own  # DBCNN keeps its S-CNN

    @property
    def facts(self) -> dict[str, Any]:
        return super().facts | {"pyiqa_version": pyiqa_version(), "code_licence": "PolyForm Noncommercial 1.0.0"}

    @property
    def files(self) -> tuple[WeightFile, ...]:
        _expect_weights(self, self.backbone)
        return super().files

    def build(self, paths: Mapping[str, Path]) -> nn.Module:
        from iqarena_models.pyiqa_adapter import build_metric

        return build_metric(self.metric, paths, self.crops, self.backbone)


@dataclass(frozen=True, kw_only=True, repr=False)
class PackagedModel(Published):
    """A scorer whose architecture is a file of this package."""

    def build(self, paths: Mapping[str, Path]) -> nn.Module:
        from iqarena_models.common_scale import filled, read_tensors

        module, _, network = self.metric.network.partition(":")
        (path,) = paths.values()
        return filled(getattr(importlib.import_module(module), network), read_tensors(path), path)


@dataclass(frozen=True, kw_only=True, repr=False)
class LinearityIQA(Published):
    """LinearityIQA; its checkpoint holds the ``resnet`` of torchvision, or the timm network ``backbone``."""

    name = "linearityiqa"
    resnet: Literal["resnext101_32x8d", "resnext50_32x4d", "resnet101", "resnet50", "resnet34", "resnet18"] = (
        "resnext101_32x8d"
    )
    backbone: str | None = None

    @property
    def backbones(self) -> tuple[str, ...]:
        return (_network(self.backbone or self.resnet),)

    @property
    def files(self) -> tuple[WeightFile, ...]:
        _expect_weights(self, self.backbone)
        return super().files

    def build(self, paths: Mapping[str, Path]) -> nn.Module:
        from iqarena_models.linearityiqa import load_checkpoint

        (path,) = paths.values()
        return load_checkpoint(path, self.resnet, self.backbone)


@dataclass(frozen=True, kw_only=True, repr=False)
class LiqeStyle(Published):
    """LIQE's five levels without CLIP; ``backbone`` is the timm network that its checkpoint holds."""

    name = "liqe_style"
    min_size = 32
    backbone: str = "resnet50"

    @property
    def backbones(self) -> tuple[str, ...]:
        return (_network(self.backbone),)

    def build(self, paths: Mapping[str, Path]) -> nn.Module:
        from iqarena_models.common_scale import filled, read_tensors
        from iqarena_models.liqe_style import LiqeStyleNet

        (path,) = paths.values()
        tensors = read_tensors(path)
        return filled(lambda: LiqeStyleNet(self.backbone), tensors.get("params", tensors), path)


_NETWORKS = {  # of timm and torchvision, by the names that the catalogue and the zoo have for them
    "resnext101_32x8d": "ResNeXt-101 32x8d, ImageNet", "resnext50_32x4d": "ResNeXt-50 32x4d, ImageNet",
    "resnet101": "ResNet-101, ImageNet", "resnet50": "ResNet-50, ImageNet", "resnet34": "ResNet-34, ImageNet",
    "resnet18": "ResNet-18, ImageNet", "resnet50_clip": "ResNet-50 of CLIP", "vgg16": "VGG-16, ImageNet",
    "vgg16_bn": "VGG-16-BN, 7 convolutions", "inception_resnet_v2": "Inception-ResNet-v2, ImageNet",
    "swin_base_patch4_window12_384": "Swin-B, ImageNet", "tf_efficientnet_lite0": "EfficientNet-Lite0",
}  # fmt: skip


def _network(name: str) -> str:
    """One name for a network, whichever of its trainings timm's tag after the dot says."""
    bare = name.partition(".")[0]
    return _NETWORKS.get(bare, f"{bare} of timm")


def _expect_weights(model: Published, backbone: str | None) -> None:
    if backbone and model.weights is None:
        raise SpecError(
            f"{model.name}: expected weights trained with backbone={backbone}, found none; see: iqarena train"
        )


@cache
def __getattr__(name: str) -> type[Published]:
    """The plugin class of a record, made from it."""
    metric = catalog().get(name)
    if metric is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    base = PyiqaModel if metric.arch else PackagedModel
    declared = {
        "name": name,
        "min_size": metric.min_size,
        "differentiable": metric.gradient != "none",
        "straight_through": metric.gradient == "straight-through",
        "__doc__": metric.what,
        "__module__": __name__,
    }
    scorer = cast("type[Published]", type(base.__name__, (base,), declared))
    return dataclass(frozen=True, kw_only=True, repr=False)(scorer)
