"""Maps of :mod:`iqarena.images.perception` for a batch of images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def maps(of: Callable[[np.ndarray], np.ndarray], x: Tensor) -> Tensor:
    """``of`` each image of ``x`` ``(N, 3, H, W)`` in [0, 1], as a uint8 image: ``(N, 1, H, W)``, typed like ``x``."""
    images = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return torch.from_numpy(np.stack([of(np.ascontiguousarray(image)) for image in images]))[:, None].to(x)
