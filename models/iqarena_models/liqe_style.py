"""LIQE's way of rating without CLIP: an image is compared with five learned levels of quality.

After Zhang, Zhai, Wei, Yang, Ma: Blind image quality assessment via vision-language correspondence: a multitask
learning perspective, CVPR 2023, arXiv 2303.14968. There CLIP encodes the image and five sentences ("a photo with good
quality"), ``p = softmax(cos(image, sentence) / τ)``, and the score is ``Σ level · p``, 1 to 5.

Reconstruction: for groups without CLIP's weights the five embeddings are parameters, trained with the rest, and a timm
network followed by a linear layer encodes the whole image. pyiqa's own ``liqe`` cannot be built without CLIP.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from iqarena_models.backbone import Backbone
from iqarena_models.zoo.net import normalised

LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0)
WIDTH = 512  # CLIP's


class LiqeStyleNet(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1] → scores ``(N,)``, 1 (bad) to 5 (perfect)."""

    def __init__(self, backbone: str, *, imagenet: bool = False) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, {32: None}, imagenet=imagenet)
        self.encode = nn.Linear(self.backbone.widths[0], WIDTH)
        self.levels = nn.Parameter(torch.randn(len(LEVELS), WIDTH))
        self.log_scale = nn.Parameter(torch.tensor(2.0))  # 1/τ = 7.4; CLIP's 100 would leave no slope at the start

    def forward(self, x: Tensor) -> Tensor:
        (tap,) = self.backbone(normalised(x))
        cosine = normalize(self.encode(tap.mean((2, 3)))) @ normalize(self.levels).T
        return (self.log_scale.exp() * cosine).softmax(1) @ x.new_tensor(LEVELS)
