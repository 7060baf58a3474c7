"""``iqarena train hyperiqa | dbcnn | liqe``: pyiqa's architectures on any folder of pictures with opinion scores.

HyperIQA (Su et al., CVPR 2020): absolute error, Adam at 1e-4 for the heads and a tenth of that for the trunk. DBCNN
(Zhang et al., TCSVT 2020): squared error; the distortion network starts from the authors' parameters where they are at
hand. LIQE (Zhang et al., CVPR 2023): fidelity loss, from weights that hold CLIP; its sentences stay as they are
encoded. All see random 224×224 parts.

Ours, not the papers': one stage instead of DBCNN's two, one part of a picture per epoch instead of HyperIQA's 25, and
for LIQE ranking inside the batch with a squared error that ties down the scale.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from iqarena.api import IqarenaError, WeightFile, WeightsError, obtain
from iqarena_models.catalog import catalog, weight_file
from iqarena_models.common_scale import fill, read_tensors
from iqarena_models.pyiqa_adapter import TRUNKS, PerImage, build_metric
from iqarena_models.training.finetune import Course, Pictures, at_least, crop_and_mirror, finetune, leave
from iqarena_models.training.losses import fidelity

SIDE = 224
SCNN = "DBCNN_scnn-7ea73d75.pth"


def train_pyiqa(
    name: str,
    data: Path,
    out: Path,
    *,
    seed: int = 0,
    epochs: int | None = None,
    limit: int | None = None,
    device: str = "cpu",
    backbone: str | None = None,
    weights: str | None = None,
    crops: int | None = None,
    from_scratch: bool = False,
    rate: float = 1e-4,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train, store ``<name>.pth``, its facts and its card in ``out``; returns the facts.

    It starts from ``weights``, a checkpoint in the published layout (or of the same ``backbone``), else from timm's
    ImageNet weights of the ``backbone``, or ``from_scratch``. ``crops`` are those of validation. Raises
    ``ImageError`` for unusable data, ``SpecError`` for a backbone that does not fit, ``WeightsError`` for weights that
    cannot be had.
    """
    metric = catalog()[name]
    if not (weights or backbone or (from_scratch and metric.arch in TRUNKS)):
        scratch = ", or --from-scratch" if metric.arch in TRUNKS else " (they hold CLIP; without any: liqe_style)"
        timm = ", backbone=a timm network" if metric.arch in TRUNKS else ""
        raise IqarenaError(f"{name}: expected weights=a checkpoint to start from{timm}{scratch}; found none of these")
    pictures = Pictures.of(data, limit)
    torch.manual_seed(seed)
    paths = {metric.files[0]: obtain(WeightFile(weights))} if weights else {}
    net = build_metric(metric, paths, crops, backbone, imagenet=not (weights or from_scratch))
    if name == "dbcnn":
        net.requires_grad_(True)  # pyiqa freezes all but the last layer
    starts_from = weights or ("random" if from_scratch else "ImageNet-1k")
    if name == "dbcnn" and not (weights or from_scratch):
        starts_from += _fill_scnn(net, say)

    def ratings(x: Tensor) -> Tensor:
        net.train(name != "liqe")  # in training LIQE would look at one random part of each, which these views are
        return net(x)

    course = Course(
        net, f"net.{TRUNKS[metric.arch][0]}." if metric.arch in TRUNKS else "net.clip_model.", crop_and_mirror(SIDE),
        ratings, lambda x: net(at_least(x, metric.min_size)), LOSSES[name],
        epochs=16, batch=16, rate=rate, trunk_rate=0.1 if metric.arch in TRUNKS else 0.05,
        options={"trunk": backbone or "published", "starts_from": starts_from, "crops": crops or metric.crops},
    )  # fmt: skip
    log = finetune(course, pictures, out, seed=seed, epochs=epochs, device=device, say=say)
    chosen = {"weights": f"{name}.pth", "backbone": backbone, "crops": crops}
    spec = f"{name}({', '.join(f'{key}={value}' for key, value in chosen.items() if value)})"
    checkpoint = {"params": net.net.cpu().state_dict()}
    return leave(name, checkpoint, course, pictures, log, out, seed=seed, spec=spec, say=say)


def ranked_levels(r: Tensor, y: Tensor) -> Tensor:
    """Fidelity loss of scores on 1–5, and a tenth of their squared error against opinion scores on 0–100."""
    return fidelity(r, y) + 0.1 * F.mse_loss(r, 1 + y / 25)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "hyperiqa": lambda r, y: F.l1_loss(r, y / 100),
    "dbcnn": lambda r, y: F.mse_loss(r, y / 100),
    "liqe": ranked_levels,
}


def _fill_scnn(net: PerImage, say: Callable[[str], None]) -> str:
    """Put the authors' distortion network into DBCNN, when its file is at hand or can be had."""
    try:
        path = obtain(weight_file(SCNN))
    except WeightsError as error:
        say(f"the distortion network starts from random weights: {error}")
        return ", distortion network random"
    tensors = {key.removeprefix("module."): value for key, value in read_tensors(path).items()}
    start = "features."
    fill(net.net.features2, {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}, path)  # pyright: ignore
    return ", distortion network the authors'"
