"""Between uint8 RGB arrays ``(H, W, 3)``, as files and OpenCV have them, and tensors ``(N, 3, H, W)``, uint8 or float.

What works on one array works on a batch of tensors by :func:`maps` and :func:`each_image`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


def to_uint8(x: Tensor) -> Tensor:
    """The uint8 levels nearest to ``x`` in [0, 1]; same shape and device."""
    return (x * 255).round_().clamp_(0, 255).to(torch.uint8)


def to_images(pixels: Tensor) -> list[np.ndarray]:
    """uint8 ``(N, 3, H, W)`` on any device → uint8 ``(H, W, 3)`` each."""
    return list(np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy()))


def to_pixels(images: Sequence[np.ndarray]) -> Tensor:
    """uint8 ``(H, W, 3)`` each → uint8 ``(N, 3, H, W)``; raises ``ValueError`` for images of several sizes."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def to_float(images: Sequence[np.ndarray]) -> Tensor:
    """The same as float32 in [0, 1]."""
    return to_pixels(images).float() / 255


def maps(of: Callable[[np.ndarray], np.ndarray], x: Tensor) -> Tensor:
    """``of`` each image of ``x`` ``(N, 3, H, W)`` in [0, 1], as a uint8 image: ``(N, 1, H, W)``, typed like ``x``."""
    return _stacked(of, x)[:, None].to(x)


def each_image(change: Callable[[np.ndarray], np.ndarray], x: Tensor) -> Tensor:
    """``change`` on each image of ``x`` ``(N, 3, H, W)`` in [0, 1], from uint8 ``(H, W, 3)`` to the like; as ``x``."""
    return _stacked(change, x).permute(0, 3, 1, 2).to(x) / 255


def luma(x: Tensor) -> Tensor:
    """Luma (BT.601) of ``x`` ``(N, 3, H, W)``: ``(N, 1, H, W)``, unrounded."""
    return (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _stacked(of: Callable[[np.ndarray], np.ndarray], x: Tensor) -> Tensor:
    return torch.from_numpy(np.stack([of(image) for image in to_images(to_uint8(x))]))
