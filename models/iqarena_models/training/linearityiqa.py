"""LinearityIQA's own training.

Li, Jiang, Jiang, ACM MM 2020, arXiv 2008.03889: norm-in-norm loss (p = 1, q = 2) on the ratings of the two taps and of
both together, weighted 0.1, 0.1, 1; Adam at 1e-4, a tenth of that for the ResNet, both a tenth after each third of 30
epochs, batches of 8; the epoch of the highest validation SROCC is kept; then a straight line from ratings to opinion
scores. ``variant`` and ``monotonicity`` are off by default there (the authors' values are 0.0909, a tenth of the first
form's weight, and 0.1). What is stored is a checkpoint in the authors' layout.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from iqarena.api import Model, WeightFile, obtain
from iqarena_models import linearityiqa
from iqarena_models.common_scale import read_tensors
from iqarena_models.linearityiqa import LinearityNet, load_checkpoint, resized, stages, tapped
from iqarena_models.published import LinearityIQA
from iqarena_models.training.losses import monotonicity as wrong_order
from iqarena_models.training.losses import norm_in_norm, on_opinions
from iqarena_models.training.recipe import Recipe, only, tenth_in_thirds
from iqarena_models.training.views import Views

WEIGHTS = (0.1, 0.1, 1.0)  # of the losses of tap 6, tap 7 and both


def train_linearityiqa(
    model: Model, *, from_scratch: bool = False, lr: float = 1e-4, p: float = 1, q: float = 2, variant: float = 0,
    monotonicity: float = 0,
) -> Recipe:  # fmt: skip
    """It starts from the model's ``weights``, a checkpoint of the same layout, else from ImageNet weights of its ResNet
    (torchvision's) or backbone (timm's) unless ``from_scratch``. ``p``, ``q``, ``variant``: see :func:`norm_in_norm`;
    ``monotonicity`` is the weight of its term. Raises ``WeightsError`` for weights that cannot be had.
    """
    only(model, "weights", "resnet", "backbone")
    model = cast(LinearityIQA, model)
    weights, resnet, backbone = model.weights, model.resnet, model.backbone
    part = f"backbone={backbone}" if backbone else f"resnet={resnet}"

    def build() -> LinearityNet:
        if weights:
            return load_checkpoint(obtain(WeightFile(weights)), resnet, backbone)
        return _fresh(resnet, backbone, from_scratch)

    def criterion(ratings: Tensor, y: Tensor) -> Tensor:
        each = [norm_in_norm(r, y, p=p, q=q, variant=variant) + monotonicity * wrong_order(r, y) for r in ratings.T]
        return cast(Tensor, sum(w * one for w, one in zip(WEIGHTS, each, strict=True)))

    return Recipe(
        name=model.name, design=model.metric.what, build=build,
        loss=on_opinions(lambda net, x: net.ratings(x), criterion),
        loss_name=f"norm-in-norm loss (p {p:g}, q {q:g}, variant {variant:g}) + {monotonicity:g} × monotonicity",
        views=Views((linearityiqa.SIZE,), mirror=False), epochs=30, batch=8, lr=lr, backbone="features.",
        backbone_lr=0.1, optimizer=torch.optim.Adam, schedule=tenth_in_thirds, patience=math.inf,
        rating=lambda net, x: net.ratings(resized(x))[:, 2],
        calibrate=_calibrate, suffix=".pth", tensors=_layout,
        starts_from=weights or ("random weights" if from_scratch else "ImageNet-1k weights"),
        facts={
            "backbone": backbone or resnet, "variant": variant, "monotonicity": monotonicity,
            "use": f"{model.name}(weights={model.name}.pth, {part})",
        },
    )  # fmt: skip


def _calibrate(net: LinearityNet, slope: float, intercept: float) -> None:
    net.k.fill_(slope)
    net.b.fill_(intercept)


def _layout(net: LinearityNet) -> dict[str, Any]:
    return {"model": net.state_dict(), "k": [float(net.k)], "b": [float(net.b)]}


def _fresh(resnet: str, backbone: str | None, from_scratch: bool) -> LinearityNet:
    if backbone:
        return LinearityNet(features=tapped(backbone, imagenet=not from_scratch))
    if from_scratch:
        return LinearityNet(resnet)
    url = get_model_weights(resnet)["IMAGENET1K_V1"].url
    return LinearityNet(features=stages(resnet, read_tensors(obtain(WeightFile(url.rpartition("/")[2], url=url)))))
