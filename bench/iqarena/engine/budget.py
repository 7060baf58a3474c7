"""The budget of an attack: projection to the ``eps`` ball and the box, rounding to 8 bit inside both; the control."""

from __future__ import annotations

import torch
from torch import Tensor


def project(x: Tensor, delta: Tensor, eps: float) -> Tensor:
    """``x + delta`` with ``|delta| ≤ eps``, in [0, 1]."""
    return (x + delta.clamp(-eps, eps)).clamp(0, 1)


def round8(pictures: Tensor, images: Tensor, eps: float) -> Tensor:
    """The grey levels nearest to ``images`` in [0, 1] that keep the budget around uint8 ``pictures``.

    Both ``(N, 3, H, W)``; ``|x' - x| ≤ ⌊255 eps⌋`` in whole levels.
    """
    room = int(eps * 255 + 1e-6)
    clean = pictures.short()
    return (images * 255).round().short().clamp(clean - room, clean + room).clamp(0, 255).to(torch.uint8)


def mirrored(clean: Tensor, adversarial: Tensor) -> Tensor:
    """The sign-flip control ``x - δ`` of uint8 ``x`` and ``x + δ`` ``(N, 3, H, W)``, clipped to the box.

    Made from the two images alone, so that it is the same for an image that was kept and for one just crafted.
    """
    return (2 * clean.short() - adversarial.short()).clamp(0, 255).to(torch.uint8)
