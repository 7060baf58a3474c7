"""How a scorer is trained: the one contract of trainings.

A training is a function ``(model, **numbers) -> Recipe``, registered by the scorer's or defense's name; numbers are its
keyword parameters with defaults, all else is done by :meth:`Recipe.train`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iqarena.api import IqarenaError, Model
from iqarena_models.training.losses import Loss
from iqarena_models.training.views import Views


def constant(progress: float) -> float:
    return 1.0


def linear_fall(progress: float) -> float:
    """From 1 to 0 in a straight line."""
    return 1 - progress


def tenth_in_thirds(progress: float) -> float:
    """1, a tenth and a hundredth, for a third of the training each."""
    return 0.1 ** int(3 * progress)


def one_cycle(progress: float, warm_up: float = 0.15) -> float:
    """Half a cosine from 1/25 up to 1, then one down to 0."""
    if progress < warm_up:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / warm_up)) / 2
    return (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up))) / 2


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A network, its loss and views, the optimiser's numbers, and what the card says of it all."""

    name: str  # of the scorer
    build: Callable[[], nn.Module]  # called after seeding; the module maps images (N, 3, H, W) in [0, 1] to scores (N,)
    loss: Loss
    loss_name: str
    views: Views
    epochs: int
    batch: int
    lr: float
    backbone: str = "backbone."  # parameters whose name starts so learn ``backbone_lr`` times as fast
    backbone_lr: float = 1.0
    frozen: tuple[str, ...] = ()  # parameters whose names start so are not trained
    optimizer: type[torch.optim.Adam] = torch.optim.AdamW
    weight_decay: float = 0.0
    schedule: Callable[[float], float] = constant  # progress from 0 to 1 → factor of the learning rates
    clip: float | None = None  # largest ℓ2 norm of the gradient
    ema: float | None = None  # decay per step of the moving average that is kept in place of the last weights
    autocast: bool = False  # bfloat16; on processors without it many times slower than float32
    evaluation: bool = False  # batch statistics are frozen, nothing is dropped out
    channels_last: bool = False
    min_size: int = 1  # pixels; a smaller image is enlarged before it is scored
    patience: float = 0  # epochs without a higher validation SROCC before the end, the best is kept; 0: the last is
    rating: Callable[[Any, Tensor], Tensor] | None = None  # (N, 3, H, W) → (N,), what a line is fitted to
    calibrate: Callable[[Any, float, float], None] | None = None  # puts the line's slope and intercept into the scorer
    probes: Mapping[str, Callable[[nn.Module, Tensor], Tensor]] = field(default_factory=dict)  # before and after
    suffix: str = ".safetensors"  # stored as fp16; ``.pth`` where a published architecture's loader needs it
    tensors: Callable[[Any], dict[str, Any]] = nn.Module.state_dict  # what is stored of the scorer
    metadata: Mapping[str, str] = field(default_factory=dict)  # stored in the safetensors
    design: str = ""
    starts_from: str = "random weights"
    licence: str = "weights trained by the iqarena authors, MIT"
    facts: Mapping[str, Any] = field(default_factory=dict)  # what else the result depends on

    def train(self, data: Path, out: Path, **options: Any) -> dict[str, Any]:
        """See :func:`iqarena_models.training.loop.train`."""
        from iqarena_models.training.loop import train

        return train(self, data, out, **options)

    def __str__(self) -> str:
        slower = f" (backbone × {self.backbone_lr:g})" if self.backbone_lr != 1 else ""
        parts = [
            f"{self.optimizer.__name__} {self.lr:g}{slower}, {self.schedule.__name__.replace('_', ' ')}",
            f"weight decay {self.weight_decay:g}" if self.weight_decay else "",
            f"gradient norm ≤ {self.clip:g}" if self.clip else "",
            f"moving average {self.ema}" if self.ema else "",
            f"batches of {self.batch}: {self.views}",
            self.loss_name,
        ]
        return "; ".join(part for part in parts if part)


def only(model: Model, *names: str) -> None:
    """Refuse parameters of ``model`` that its training does not know, rather than ignore them."""
    for parameter in fields(model):
        if parameter.name not in names and getattr(model, parameter.name) != parameter.default:
            raise IqarenaError(f"training of {model.name} expects no {parameter.name}; leave it out")
