"""The trainings of the embedded zoo: one recipe a scorer, in one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from iqarena.api import Model
from iqarena_models.training.losses import correlation, linearity, on_opinions_and_ranks
from iqarena_models.training.recipe import Recipe, one_cycle, only
from iqarena_models.training.views import Views
from iqarena_models.zoo.backbones import dino, lite, resnet, vgg
from iqarena_models.zoo.backbones.package import Package
from iqarena_models.zoo.bilinear import BilinearNet
from iqarena_models.zoo.cnn import CnnNet
from iqarena_models.zoo.hyper import HyperNet
from iqarena_models.zoo.linearity import LinearityNet
from iqarena_models.zoo.net import ScorerNet
from iqarena_models.zoo.vit import VitNet

OURS = "weights trained by the iqarena authors, MIT"


def zoo(
    name: str, build: Callable[[], ScorerNet], *, design: str, backbone: str = "none", package: Package | None = None,
    **changes: Any,
) -> Recipe:  # fmt: skip
    """What the recipes of the zoo have in common. ``backbone`` names the pretrained part, ``package`` has its weights;
    ``changes`` are fields of :class:`~iqarena_models.training.recipe.Recipe`."""
    common: dict[str, Any] = {
        "loss": on_opinions_and_ranks(correlation),
        "loss_name": "half of 1 − PLCC + 0.1 × squared error + 0.5 × ranking hinge, margin 1.5 × distance of strengths",
        "views": Views((224, (384, 384)), degraded=8),
        "epochs": 6, "batch": 32, "lr": 1e-3, "backbone_lr": 0.1, "weight_decay": 0.02, "schedule": one_cycle,
        "clip": 2.0, "ema": 0.99, "channels_last": True,
        "rating": lambda net, x: net.ratings(x)[:, -1], "calibrate": _calibrate, "facts": {"backbone": backbone},
        "starts_from": str(package or "random weights"),
        "licence": f"{OURS}; backbone: {package}" if package else OURS,
    }  # fmt: skip
    return Recipe(name=name, build=build, design=design, **(common | changes))


def _calibrate(net: ScorerNet, slope: float, intercept: float) -> None:
    net.scale.fill_(slope)
    net.shift.fill_(intercept)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        zoo(
            "cnn", CnnNet, design="A plain convolutional scorer with local contrast normalisation (CNNIQA's idea).",
            epochs=24, lr=3e-3, views=Views((160, 224, (256, 256)), degraded=16),
        ),
        zoo(
            "bilinear", lambda: BilinearNet(pretrained=True),
            design="Two streams, content and distortion, joined by bilinear pooling (DBCNN's idea).",
            backbone="VGG-16-BN", package=vgg.PACKAGE,
        ),
        zoo(
            "hyper", lambda: HyperNet(pretrained=True),
            design="A hyper-network writes the weights that rate the image (HyperIQA's idea).",
            backbone="ResNet-50-thin", package=resnet.PACKAGE,
        ),
        zoo(
            "linearity", lambda: LinearityNet(pretrained=True),
            design="Two taps of the backbone, rated linearly, with the norm-in-norm loss (LinearityIQA's idea).",
            loss=on_opinions_and_ranks(linearity),
            loss_name="norm-in-norm loss of three ratings, weighted 0.1, 0.1, 1, + 0.02 × their mean square"
            " + 0.5 × ranking hinge, margin 1.5 × distance of strengths",
            backbone="EfficientNet-Lite0", package=lite.PACKAGE,
        ),
        zoo(
            "vit", lambda: VitNet(pretrained=True),
            design="A vision transformer that scores by similarity to five quality levels (LIQE's idea).",
            backbone="DINOv2 ViT-S/14, 6 blocks", package=dino.PACKAGE,
        ),
    )
}  # fmt: skip


def train_zoo(model: Model) -> Recipe:
    """The recipe of an embedded scorer."""
    only(model)
    return RECIPES[model.name]
