"""Training of pyiqa's architectures ``hyperiqa``, ``dbcnn`` and ``liqe``.

HyperIQA (Su et al., CVPR 2020): absolute error, a tenth of the heads' rate for the backbone. DBCNN (Zhang et al., TCSVT
2020): squared error; the distortion network starts from the authors' parameters where they are at hand. LIQE (Zhang et
al., CVPR 2023): fidelity loss, from weights that hold CLIP; its sentences stay as they are encoded. All see random
224×224 crops.

Ours, not the papers': the learning rates (1e-4 for the heads and no weight decay; HyperIQA's are 2e-4, 2e-5 for the
backbone, and 5e-4), one stage instead of DBCNN's two, one crop of an image per epoch instead of HyperIQA's 25, and for
LIQE ranking inside the batch with a squared error that ties down the scale.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from iqarena.api import IqarenaError, Model, WeightFile, WeightsError, obtain
from iqarena_models.catalog import weight_file
from iqarena_models.common_scale import fill, read_tensors
from iqarena_models.published import PyiqaModel
from iqarena_models.pyiqa_adapter import BACKBONES, PerImage, build_metric
from iqarena_models.training.losses import on_opinions, ranked_levels
from iqarena_models.training.recipe import Recipe, only
from iqarena_models.training.views import Views

SCNN = "DBCNN_scnn-7ea73d75.pth"
LOSSES: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "hyperiqa": ("absolute error", lambda r, y: F.l1_loss(r, y / 100)),
    "dbcnn": ("squared error", lambda r, y: F.mse_loss(r, y / 100)),
    "liqe": ("fidelity loss + 0.1 × squared error of levels", ranked_levels),
}


def train_pyiqa(model: Model, *, from_scratch: bool = False, lr: float = 1e-4, side: int = 224) -> Recipe:
    """It starts from the model's ``weights``, a checkpoint in the published layout (or of the same ``backbone``), else
    from timm's ImageNet weights of the ``backbone``, or ``from_scratch``. ``crops`` are those of validation, ``side``
    is that of training crops. Raises ``SpecError`` for a backbone that does not fit, ``WeightsError`` for weights that
    cannot be had.
    """
    only(model, "weights", "backbone", "crops")
    model = cast(PyiqaModel, model)
    name, metric, weights, backbone = model.name, model.metric, model.weights, model.backbone
    bare = metric.arch in BACKBONES  # can be built without a checkpoint
    if not (weights or backbone or (from_scratch and bare)):
        scratch = ", or --from-scratch" if bare else " (they hold CLIP; without any: liqe_style)"
        timm = ", backbone=a timm network" if bare else ""
        raise IqarenaError(f"{name}: expected weights=a checkpoint to start from{timm}{scratch}; found none of these")
    scnn = None if name != "dbcnn" or weights or from_scratch else _at_hand(SCNN)

    def build() -> PerImage:
        paths = {metric.files[0]: obtain(WeightFile(weights))} if weights else {}
        net = build_metric(metric, paths, model.crops, backbone, imagenet=not (weights or from_scratch))
        if name == "dbcnn":
            net.requires_grad_(True)  # pyiqa freezes all but the last layer
        if scnn:
            start = "features."
            tensors = {key.removeprefix("module."): value for key, value in read_tensors(scnn).items()}
            tensors = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
            fill(net.net.features2, tensors, scnn)  # pyright: ignore[reportArgumentType]
        return net

    starts_from = weights or ("random weights" if from_scratch else "ImageNet-1k weights")
    if name == "dbcnn" and not (weights or from_scratch):
        starts_from += f", distortion network {'the authors’' if scnn else 'random'}"
    options = {"weights": f"{name}.pth", "backbone": backbone, "crops": model.crops}
    loss_name, criterion = LOSSES[name]
    return Recipe(
        name=name, design=metric.what, build=build, loss=on_opinions(lambda net, x: net(x), criterion),
        loss_name=loss_name, views=Views((side,)), epochs=16, batch=16, lr=lr, optimizer=torch.optim.Adam,
        backbone=f"net.{BACKBONES[metric.arch][0]}." if bare else "net.clip_model.", backbone_lr=0.1 if bare else 0.05,
        evaluation=name == "liqe",  # in training it would look at one random part of each crop
        min_size=metric.min_size, suffix=".pth", tensors=lambda net: {"params": net.net.state_dict()},
        starts_from=starts_from,
        facts={
            "backbone": backbone or "published", "crops": model.crops or metric.crops,
            "use": f"{name}({', '.join(f'{key}={value}' for key, value in options.items() if value)})",
        },
    )  # fmt: skip


def _at_hand(name: str) -> Path | None:
    try:
        return obtain(weight_file(name))
    except WeightsError:
        return None
