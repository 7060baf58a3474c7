"""The budget of an attack in whole grey levels: what it moves each pixel by, and the images that come of it.

A *shift* is a perturbation in grey levels, inside the budget, before the box cuts it: controls give it other signs, and
a pixel at the edge of the box that the attack could not move may then move the other way. From the 8-bit image alone
the control of plain noise would be weaker than the noise; that of an attack which cuts to the box itself is, as the
shift is cut already.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shift_of(clean: Tensor, moved: Tensor, eps: float) -> Tensor:
    """Whole grey levels (int16) from uint8 ``clean`` to ``moved`` (float, 1 is 255 levels), at most ``⌊255 eps⌋``.

    Both are ``(N, 3, H, W)``; ``moved`` may lie outside the box.
    """
    limit = int(eps * 255 + 1e-6)
    return (moved * 255).round_().to(torch.int16).sub_(clean).clamp_(-limit, limit)


def shifted(clean: Tensor, shift: Tensor) -> Tensor:
    """uint8 ``clean`` moved by ``shift``, cut to the box."""
    return (shift + clean).clamp_(0, 255).to(torch.uint8)


def mirrored(clean: Tensor, shift: Tensor) -> Tensor:
    """The sign-flip control ``x - δ`` of ``x + δ``."""
    return shifted(clean, -shift)


def displaced(clean: Tensor, shift: Tensor, spare: Tensor) -> Tensor:
    """The displaced control: every pixel keeps its amplitude ``|δ|`` and takes its sign from half an image away.

    So mask, budget and visibility stay, and what is lost is how the signs fit the image. Where the sign there is 0 it
    is that of ``spare``, random ±1 ``(N, 3, H, W)``.
    """
    height, width = shift.shape[-2:]
    signs = shift.sign().roll((height // 2, width // 2), (-2, -1))
    return shifted(clean, shift.abs() * torch.where(signs == 0, spare.to(signs), signs))


def round8(clean: Tensor, moved: Tensor, eps: float) -> Tensor:
    """The grey levels nearest to ``moved`` in the box that keep the budget around uint8 ``clean``."""
    return shifted(clean, shift_of(clean, moved, eps))
