"""Training of LIQE's levels of quality over a timm network, with LIQE's loss; see :mod:`iqarena_models.liqe_style`."""

from __future__ import annotations

from typing import cast

import torch

from iqarena.api import Model, WeightFile, obtain
from iqarena_models import liqe_style
from iqarena_models.common_scale import fill, read_tensors
from iqarena_models.published import LiqeStyle
from iqarena_models.training.losses import on_opinions, ranked_levels
from iqarena_models.training.recipe import Recipe, only
from iqarena_models.training.views import Views


def train_liqe_style(model: Model, *, from_scratch: bool = False, lr: float = 1e-3, side: int = 224) -> Recipe:
    """It starts from the model's ``weights``, else from ImageNet weights of its backbone, or ``from_scratch``; ``side``
    is that of the crops. Raises ``WeightsError`` for weights that cannot be had."""
    only(model, "weights", "backbone")
    model = cast(LiqeStyle, model)
    weights, backbone = model.weights, model.backbone

    def build() -> liqe_style.LiqeStyleNet:
        net = liqe_style.LiqeStyleNet(backbone, imagenet=not (weights or from_scratch))
        if weights:
            tensors = read_tensors(path := obtain(WeightFile(weights)))
            fill(net, tensors.get("params", tensors), path)
        return net

    return Recipe(
        name=model.name, design=model.metric.what, build=build, loss=on_opinions(lambda net, x: net(x), ranked_levels),
        loss_name="fidelity loss + 0.1 × squared error of levels", views=Views((side,)), epochs=16, batch=16, lr=lr,
        backbone_lr=0.1, optimizer=torch.optim.Adam, suffix=".pth", tensors=lambda net: {"params": net.state_dict()},
        starts_from=weights or ("random weights" if from_scratch else "ImageNet-1k weights"),
        facts={"backbone": backbone, "use": f"{model.name}(weights={model.name}.pth, backbone={backbone})"},
    )  # fmt: skip
