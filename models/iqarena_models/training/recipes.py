"""The trainings of the embedded zoo: one recipe a scorer, in one table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from iqarena.api import Model
from iqarena_models.training.losses import correlation, linearity, on_opinions_and_ranks
from iqarena_models.training.recipe import Recipe, one_cycle, only
from iqarena_models.training.views import Views
from iqarena_models.zoo.backbones import dino, lite, resnet, squeeze, vgg
from iqarena_models.zoo.backbones.package import Package
from iqarena_models.zoo.bilinear import BilinearNet
from iqarena_models.zoo.cnn import CnnNet
from iqarena_models.zoo.hyper import HyperNet
from iqarena_models.zoo.linearity import LinearityNet
from iqarena_models.zoo.net import ScorerNet
from iqarena_models.zoo.vit import VitNet

OURS = "weights trained by the iqarena authors, MIT"


def zoo(
    name: str, net: Callable[..., ScorerNet], *, design: str, backbone: str = "none",
    packages: tuple[Package, ...] = (), frozen: tuple[str, ...] = (),
    criterion: Callable[[Tensor, Tensor], Tensor] = correlation,
    criterion_name: str = "half of 1 − PLCC + 0.1 × squared error", slope: float = 1.0, **changes: Any,
) -> Recipe:  # fmt: skip
    """What the recipes of the zoo have in common. ``backbone`` names the pretrained part, ``packages`` hold
    its weights; parameters whose names begin with one of ``frozen`` stay as they are; ``criterion`` compares ratings
    with opinion scores, and ``slope`` is how far apart a unit of strength must be rated; ``changes`` are fields of
    :class:`~iqarena_models.training.recipe.Recipe`."""
    credits = " and ".join(map(str, packages))
    start = credits or "random weights"
    common: dict[str, Any] = {
        "loss": on_opinions_and_ranks(criterion, slope=slope),
        "loss_name": f"{criterion_name} + 0.5 × ranking hinge, margin {slope} × distance of strengths",
        "views": Views((192, 224, 256, (224, 224), (320, 320)), degraded=8),
        "epochs": 5, "batch": 32, "lr": 1e-3, "backbone_lr": 0.1, "weight_decay": 0.02, "schedule": one_cycle,
        "clip": 2.0, "ema": 0.99, "min_size": 64, "channels_last": True, "frozen": frozen,
        "rating": lambda net, x: net.ratings(x)[:, -1], "calibrate": _calibrate, "facts": {"backbone": backbone},
        "starts_from": f"{start}; not trained: {', '.join(frozen)}" if frozen else start,
        "licence": f"{OURS}; backbone: {credits}" if packages else OURS,
    }  # fmt: skip
    build = partial(net, pretrained=True) if packages else net
    return Recipe(name=name, build=build, design=design, **(common | changes))


def _calibrate(net: ScorerNet, slope: float, intercept: float) -> None:
    net.scale.fill_(slope)
    net.shift.fill_(intercept)


# Frozen are the layers at the highest resolutions: they take half of the time and are the most general ones.
RECIPES = {
    recipe.name: recipe
    for recipe in (
        zoo(
            "cnn", CnnNet, design="A plain convolutional scorer with local contrast normalisation (CNNIQA's idea).",
            epochs=12, lr=3e-3, slope=1.5, views=Views((128, 160, 224, (224, 224)), degraded=32),
        ),
        zoo(
            "bilinear", BilinearNet,
            design="Two streams, content and distortion, joined by bilinear pooling (DBCNN's idea).",
            backbone="VGG-16-BN, 7 convolutions, and SqueezeNet 1.1",
            packages=(vgg.PACKAGE, squeeze.PACKAGE), autocast=True, epochs=10,
            views=Views((160, 192, 224, (320, 320), (512, 512)), degraded=8),
            frozen=(
                *(f"backbone.content.convs.{i}." for i in range(5)),
                *(f"backbone.distortion.{part}." for part in ("stem", "fires.0", "fires.1")),
            ),
        ),
        zoo(
            "hyper", HyperNet, design="A hyper-network writes the weights that rate the image (HyperIQA's idea).",
            backbone="ResNet-50-thin", packages=(resnet.PACKAGE,), frozen=("backbone.stem.", "backbone.stages.0."),
        ),
        zoo(
            "linearity", LinearityNet,
            design="Two taps of the backbone, rated linearly, with the norm-in-norm loss (LinearityIQA's idea).",
            criterion=linearity,
            criterion_name="norm-in-norm loss of three ratings, weighted 0.1, 0.1, 1, + 0.02 × their mean square",
            backbone="EfficientNet-Lite0", packages=(lite.PACKAGE,),
            frozen=tuple(f"backbone.to_16.{i}." for i in range(5)),
        ),
        zoo(
            "vit", VitNet,
            design="A vision transformer that scores by similarity to five quality levels (LIQE's idea).",
            backbone="DINOv2 ViT-S/14, 6 blocks", packages=(dino.PACKAGE,), channels_last=False,
            lr=5e-4, backbone_lr=0.04, epochs=8, autocast=True,
            views=Views((192, 224, 288, (384, 384), (512, 512)), degraded=8),
            frozen=(
                *(f"backbone.{part}" for part in ("patches", "token", "position")),
                *(f"backbone.blocks.{i}." for i in range(3)),
            ),
        ),
    )
}  # fmt: skip


def train_zoo(model: Model) -> Recipe:
    """The recipe of an embedded scorer."""
    only(model)
    return RECIPES[model.name]
