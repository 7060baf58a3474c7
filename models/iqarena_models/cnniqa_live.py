"""CNNIQA: convolutional neural networks for no-reference image quality assessment.

Kang, Ye, Li, Doermann, CVPR 2014. The grey image is cut into 32×32 patches that do not overlap, each normalised
locally: ``(I − μ) / (σ + 1)`` with mean and deviation over 3×3 pixels of the patch, ``I`` in [0, 1]. Each goes through
one layer of 50 7×7 filters, maximum and minimum over positions, two layers of 800 rectified units and a linear one; the
score is the mean over patches (realigned DMOS of LIVE, lower = better).

The parameters are those of Li's reimplementation (github lidq92/CNNIQA), and so are the layer names, the window of 3×3,
the ``σ + 1``, the scale of ``I`` and the patches: a last row or column that ends exactly at the border is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqarena.images.tensors import luma

PATCH = 32


class PatchCnniqa(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1], both sides ≥ 33 → DMOS ``(N,)``, about 0–100, lower = better."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 50, 7)
        self.fc1, self.fc2, self.fc3 = nn.Linear(100, 800), nn.Linear(800, 800), nn.Linear(800, 1)

    def forward(self, x: Tensor) -> Tensor:
        inside = luma(x)[..., :-1, :-1]
        patches = inside.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # (N, 1, rows, columns, 32, 32)
        h = self.conv1(normalised(patches.reshape(-1, 1, PATCH, PATCH)))
        h = torch.cat([h.amax((2, 3)), h.amin((2, 3))], 1)
        h = torch.relu(self.fc2(torch.relu(self.fc1(h))))
        return self.fc3(h).view(len(x), -1).mean(1)


def normalised(grey: Tensor) -> Tensor:
    """``(I − μ) / (σ + 1)`` over 3×3 pixels of each patch; its edge pixels are repeated beyond the border."""
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    mean = F.avg_pool2d(padded, 3, 1)
    variance = F.avg_pool2d(padded**2, 3, 1) - mean**2
    return (grey - mean) / (variance.clamp_min(1e-10).sqrt() + 1)  # the smallest variance keeps the gradient finite
