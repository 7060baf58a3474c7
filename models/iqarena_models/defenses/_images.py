"""For purifications that are a library's and work on ordinary 8-bit images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def each_image(x: Tensor, change: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """``change`` on every image of ``x`` ``(N, 3, H, W)`` in [0, 1], as uint8 RGB ``(H, W, 3)``; same shape back."""
    images = (x * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    changed = np.stack([change(np.ascontiguousarray(one)) for one in images])
    return torch.from_numpy(changed).permute(0, 3, 1, 2).to(x) / 255
