"""``iqarena train liqe_style``: LIQE's levels of quality over a timm network, with LIQE's loss; see its module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from iqarena.api import WeightFile, obtain
from iqarena_models.common_scale import fill, read_tensors
from iqarena_models.liqe_style import LiqeStyle
from iqarena_models.training.finetune import Course, Pictures, crop_and_mirror, finetune, leave
from iqarena_models.training.pyiqa import SIDE, ranked_levels


def train_liqe_style(
    name: str,
    data: Path,
    out: Path,
    *,
    seed: int = 0,
    epochs: int | None = None,
    limit: int | None = None,
    device: str = "cpu",
    backbone: str = "resnet50",
    weights: str | None = None,
    from_scratch: bool = False,
    rate: float = 1e-3,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train, store ``<name>.pth``, its facts and its card in ``out``; returns the facts. Starts and errors are those
    of :func:`~iqarena_models.training.pyiqa.train_pyiqa`."""
    pictures = Pictures.of(data, limit)
    torch.manual_seed(seed)
    net = LiqeStyle(backbone, imagenet=not (weights or from_scratch))
    if weights:
        tensors = read_tensors(path := obtain(WeightFile(weights)))
        fill(net, tensors.get("params", tensors), path)
    course = Course(
        net, "backbone.", crop_and_mirror(SIDE), net, net, ranked_levels,
        epochs=16, batch=16, rate=rate, trunk_rate=0.1,
        options={"trunk": backbone, "starts_from": weights or ("random" if from_scratch else "ImageNet-1k")},
    )  # fmt: skip
    log = finetune(course, pictures, out, seed=seed, epochs=epochs, device=device, say=say)
    spec = f"{name}(weights={name}.pth, backbone={backbone})"
    return leave(name, {"params": net.cpu().state_dict()}, course, pictures, log, out, seed=seed, spec=spec, say=say)
