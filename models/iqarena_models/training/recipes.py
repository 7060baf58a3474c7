"""The trainings of the embedded zoo: one recipe a scorer, in one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from iqarena.api import Model
from iqarena_models.training.losses import correlation, on_opinions_and_ranks
from iqarena_models.training.recipe import Recipe, one_cycle, only
from iqarena_models.training.views import Views
from iqarena_models.zoo.net import ScorerNet


def zoo(name: str, build: Callable[[], ScorerNet], *, design: str, backbone: str = "none", **changes: Any) -> Recipe:
    """The recipe that the zoo's scorers have in common; ``backbone`` names the pretrained part, ``changes`` are fields
    of :class:`~iqarena_models.training.recipe.Recipe`."""
    common: dict[str, Any] = {
        "loss": on_opinions_and_ranks(correlation),
        "loss_name": "half of 1 − PLCC + 0.1 × squared error + 0.5 × ranking hinge, margin 1.5 × distance of strengths",
        "views": Views((224, (384, 384)), degraded=8),
        "epochs": 6, "batch": 32, "lr": 1e-3, "backbone_lr": 0.1, "weight_decay": 0.02, "schedule": one_cycle,
        "clip": 2.0, "ema": 0.99, "autocast": True, "channels_last": True,
        "rating": lambda net, x: net.ratings(x)[:, -1], "calibrate": _calibrate, "facts": {"backbone": backbone},
    }  # fmt: skip
    return Recipe(name=name, build=build, design=design, **(common | changes))


def _calibrate(net: ScorerNet, slope: float, intercept: float) -> None:
    net.scale.fill_(slope)
    net.shift.fill_(intercept)


RECIPES: dict[str, Recipe] = {}


def train_zoo(model: Model) -> Recipe:
    """The recipe of an embedded scorer."""
    only(model)
    return RECIPES[model.name]
