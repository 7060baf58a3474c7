"""LinearityIQA: a scorer trained with the norm-in-norm loss.

Li, Jiang, Jiang: Norm-in-norm loss with faster convergence and better performance for image quality assessment,
ACM Multimedia 2020, arXiv 2008.03889. A ResNet of torchvision is tapped after its third and fourth stage; each tap is
averaged over positions, reduced to 64 numbers and rated, and the 128 numbers together give the final rating ``q``. The
score is ``k q + b``, a straight line fitted to the opinion scores of the training images (KonIQ-10k, about 1–100).
Images are resized to 498×664. A timm ``backbone`` may stand in for it, tapped at 1/16 and 1/32 of the image.

The layout is that of the authors' checkpoints: a dictionary with the state ``model`` (names below) and the lists ``k``
and ``b``. Left out of the paper's variants: spatial pooling other than the average, pyramids, normalised ratings.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
import torchvision.models as torchvision_models
from torch import Tensor, nn
from torch.nn import functional as F

from iqarena.api import WeightsError
from iqarena_models.backbone import Backbone
from iqarena_models.common_scale import filled, read_tensors
from iqarena_models.zoo.net import normalised

SIZE = (498, 664)


class LinearityNet(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1] → scores ``(N,)`` on the scale of the training set, higher = better."""

    features: nn.Sequential | Backbone
    k: Tensor
    b: Tensor

    def __init__(self, resnet: str = "resnext101_32x8d", features: nn.Sequential | Backbone | None = None) -> None:
        super().__init__()
        self.features = stages(resnet) if features is None else features
        self.dr6, self.dr7 = map(_reduce, _widths(self.features))
        self.regr6, self.regr7, self.regression = nn.Linear(64, 1), nn.Linear(64, 1), nn.Linear(128, 1)
        self.register_buffer("k", torch.ones(()), persistent=False)
        self.register_buffer("b", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.k * self.ratings(resized(x))[:, 2] + self.b

    def ratings(self, x: Tensor) -> Tensor:
        """Images of :data:`SIZE` → ``(N, 3)``: what the two taps and both together say."""
        z = normalised(x)
        if isinstance(self.features, Backbone):
            tap6, tap7 = self.features(z)
        else:
            tap6 = self.features[:-1](z)
            tap7 = self.features[-1](tap6)
        v6, v7 = self.dr6(tap6.mean((2, 3))), self.dr7(tap7.mean((2, 3)))
        return torch.cat([self.regr6(v6), self.regr7(v7), self.regression(torch.cat([v6, v7], 1))], 1)


def resized(x: Tensor) -> Tensor:
    """Images at 498×664: bilinear, antialiased where they shrink (as PIL resizes)."""
    return x if x.shape[-2:] == SIZE else F.interpolate(x, SIZE, mode="bilinear", antialias=True)


def stages(resnet: str, imagenet: dict[str, Tensor] | None = None) -> nn.Sequential:
    """A torchvision network without its pooling and classifier."""
    network = getattr(torchvision_models, resnet)(weights=None)
    if imagenet is not None:
        network.load_state_dict(imagenet)
    return nn.Sequential(*list(network.children())[:-2])


def tapped(backbone: str | None, *, imagenet: bool = False) -> Backbone | None:
    """The timm network that stands in for the ResNet, if one does."""
    return Backbone(backbone, {16: None, 32: None}, imagenet=imagenet) if backbone else None


def load_checkpoint(path: Path, resnet: str, backbone: str | None = None) -> LinearityNet:
    """A checkpoint in the authors' layout; raises :class:`WeightsError` for any other or another ResNet's."""
    saved = read_tensors(path)
    if missing := [key for key in ("model", "k", "b") if key not in saved]:
        raise WeightsError(f"{path}: expected a checkpoint with 'model', 'k' and 'b', found none of {missing}")
    net = filled(lambda: LinearityNet(resnet, tapped(backbone)), saved["model"], path)
    try:
        net.k.fill_(float(saved["k"][0]))
        net.b.fill_(float(saved["b"][0]))
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: expected one number each in 'k' and 'b', found another thing: {error}") from None
    return net


def _widths(features: nn.Sequential | Backbone) -> list[int]:
    """Channels of the two taps."""
    if isinstance(features, Backbone):
        return features.widths
    taps = list(features.children())[-2:]
    return [[m for m in stage.modules() if isinstance(m, nn.Conv2d)][-1].out_channels for stage in taps]


def _reduce(width: int) -> nn.Sequential:
    sizes = (width, 1024, 256, 64)
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.BatchNorm1d(b))]
    return nn.Sequential(*layers, nn.ReLU())
