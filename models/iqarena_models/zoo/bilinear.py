"""``bilinear``: a two-stream bilinear scorer in the spirit of DBCNN (Zhang, Ma, Yan, Deng, Wang, TCSVT 2020).

Kept from the paper: one pretrained stream that knows content (VGG-16) and a smaller one for distortions, joined by an
outer product over positions and a signed square root. Changed: VGG-16 up to conv3_3, of the image averaged over 2×2
pixels, since at full size it would cost four times as much; the second stream, which sees the full resolution, is
SqueezeNet, in the place of a network that was trained to tell distortions apart; beside the products stand means and
deviations of several depths of both, layer normalisation takes the place of the ℓ2 norm, and there is a hidden layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqarena_models.zoo.backbones import squeeze, vgg
from iqarena_models.zoo.net import ScorerNet, at_least_float, mean_std, pad_to_multiple

TAPS = (5, 6)  # convolutions of VGG-16, counted from 0: conv3_2, conv3_3
CHANNELS = 32  # of each stream in the outer product
HIDDEN = 64


class BilinearNet(ScorerNet):
    backbone: nn.ModuleDict

    def __init__(self, *, pretrained: bool = False) -> None:
        content, distortion = vgg.Vgg(TAPS, pretrained=pretrained), squeeze.Squeeze(pretrained=pretrained)
        super().__init__(nn.ModuleDict({"content": content, "distortion": distortion}))
        widths = (*(vgg.WIDTHS[tap] for tap in TAPS), *squeeze.CHANNELS)
        self.content = nn.Conv2d(vgg.WIDTHS[TAPS[-1]], CHANNELS, 1)
        self.distortion = nn.Conv2d(squeeze.CHANNELS[0], CHANNELS, 1)
        parts = [CHANNELS**2, *(width for width in widths for _ in range(2))]
        self.norms = nn.ModuleList(nn.LayerNorm(numbers) for numbers in parts)
        self.regression = nn.Sequential(
            nn.Linear(sum(parts), HIDDEN), nn.LayerNorm(HIDDEN), nn.ReLU(), nn.Dropout(0.2), nn.Linear(HIDDEN, 1)
        )

    def ratings(self, x: Tensor) -> Tensor:
        x = pad_to_multiple(x, 8)
        contents, distortions = self.backbone["content"](F.avg_pool2d(x, 2)), self.backbone["distortion"](x)
        content, distortion = self.content(contents[-1]), self.distortion(distortions[0])
        products = at_least_float(torch.einsum("nchw,ndhw->ncd", content, distortion)).flatten(1)
        products = products / content[0, 0].numel()
        rooted = products / (products.abs() + 1e-4).sqrt()  # signed square root, smooth at 0
        features = [mean_std(at_least_float(z)).chunk(2, 1) for z in (*contents, *distortions)]
        parts = [rooted, *(part for pair in features for part in pair)]
        return self.regression(torch.cat([norm(part) for norm, part in zip(self.norms, parts, strict=True)], 1))
