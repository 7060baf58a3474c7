"""``iqarena train linearityiqa``: the paper's training of LinearityIQA on any folder of pictures with opinion scores.

Li, Jiang, Jiang, ACM MM 2020, arXiv 2008.03889: norm-in-norm loss (p = 1, q = 2) on the ratings of the two taps and of
both together, weighted 0.1, 0.1, 1; Adam at 1e-4, a tenth of that for the trunk, batches of 8, 30 epochs; then a
straight line from ratings to opinion scores. ``variant`` and ``monotonicity`` are off by default there (the authors'
weight of the latter is 0.1). What is left behind is a checkpoint in the authors' layout.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torchvision.models import get_model_weights

from iqarena.api import WeightFile, obtain
from iqarena_models.common_scale import read_tensors
from iqarena_models.linearityiqa import LinearityNet, load_checkpoint, resized, stages, tapped
from iqarena_models.training.finetune import Course, Pictures, finetune, leave, scores
from iqarena_models.training.losses import monotonicity as wrong_order
from iqarena_models.training.losses import norm_in_norm

WEIGHTS = (0.1, 0.1, 1.0)  # of the losses of tap 6, tap 7 and both


def train_linearityiqa(
    name: str,
    data: Path,
    out: Path,
    *,
    seed: int = 0,
    epochs: int | None = None,
    limit: int | None = None,
    device: str = "cpu",
    trunk: str = "resnext101_32x8d",
    backbone: str | None = None,
    weights: str | None = None,
    from_scratch: bool = False,
    rate: float = 1e-4,
    p: float = 1,
    q: float = 2,
    variant: float = 0,
    monotonicity: float = 0,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train, store ``<name>.pth``, its facts and its card in ``out``; returns the facts.

    It starts from ``weights``, a checkpoint of the same layout, else from ImageNet weights of the trunk (torchvision's)
    or backbone (timm's) unless ``from_scratch``. ``p``, ``q``, ``variant``: see :func:`norm_in_norm`; ``monotonicity``
    is the weight of its term. Raises ``ImageError`` for unusable data and ``WeightsError`` for weights that cannot be
    had.
    """
    pictures = Pictures.of(data, limit)
    torch.manual_seed(seed)
    if weights:
        net, starts_from = load_checkpoint(obtain(WeightFile(weights)), trunk, backbone), weights
    else:
        net, starts_from = _fresh(trunk, backbone, from_scratch), "random" if from_scratch else "ImageNet-1k"

    def loss(ratings: Tensor, y: Tensor) -> Tensor:
        each = [norm_in_norm(r, y, p=p, q=q, variant=variant) + monotonicity * wrong_order(r, y) for r in ratings.T]
        return cast(Tensor, sum(w * one for w, one in zip(WEIGHTS, each, strict=True)))

    course = Course(
        net, "features.", lambda x, rng: resized(x), net.ratings, lambda x: net.ratings(resized(x))[:, 2], loss,
        epochs=30, batch=8, rate=rate, trunk_rate=0.1,
        options={
            "trunk": backbone or trunk, "starts_from": starts_from, "p": p, "q": q, "variant": variant,
            "monotonicity": monotonicity,
        },
    )  # fmt: skip
    log = finetune(course, pictures, out, seed=seed, epochs=epochs, device=device, say=say)
    slope, shift = np.polyfit(scores(course, pictures, pictures.train, device), pictures.mos[pictures.train], 1)
    checkpoint = {"model": net.cpu().state_dict(), "k": [float(slope)], "b": [float(shift)]}
    spec = f"{name}(weights={name}.pth, {f'backbone={backbone}' if backbone else f'trunk={trunk}'})"
    return leave(name, checkpoint, course, pictures, log, out, seed=seed, spec=spec, say=say)


def _fresh(trunk: str, backbone: str | None, from_scratch: bool) -> LinearityNet:
    if backbone:
        return LinearityNet(features=tapped(backbone, imagenet=not from_scratch))
    if from_scratch:
        return LinearityNet(trunk)
    url = get_model_weights(trunk)["IMAGENET1K_V1"].url
    return LinearityNet(features=stages(trunk, read_tensors(obtain(WeightFile(url.rpartition("/")[2], url=url)))))
