"""The sealed call around every attack: nothing an attack returns is trusted.

It checks shape and finiteness, projects to the budget, rounds to whole grey levels and cuts to the box; the sign-flip
control ``x - δ`` (the directed effect) is the same with the levels turned round. What is scored is what was rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from iqarena.api import Attack, AttackError
from iqarena.api.streams import Streams
from iqarena.engine.budget import mirrored, shift_of, shifted
from iqarena.engine.scorer import WeightsTouched
from iqarena.engine.source import Source


@dataclass(frozen=True)
class Crafted:
    """Adversarial images of one attack: uint8 ``(N, 3, H, W)``, and the float ones before rounding."""

    clean: Tensor
    adversarial: Tensor
    shift: Tensor  # int16, whole grey levels before the box cut them
    unrounded: Tensor
    finite: Tensor  # (N,) bool: False where the attack gave NaN or infinity (the image is then left clean)
    changed: Tensor  # (N,) bool: whether rounding changed anything

    @property
    def control(self) -> Tensor:
        """The sign-flip control, uint8 ``(N, 3, H, W)``."""
        return mirrored(self.clean, self.shift)


def craft(attack: Attack, images: Tensor, x: Tensor, source: Source, streams: Streams) -> Crafted:
    """Run ``attack`` on uint8 ``images`` ``(N, 3, H, W)``, which ``x`` holds as float in [0, 1].

    ``source`` knows which way each score is to go. Raises :class:`AttackError` when the attack breaks its contract.
    """
    before = x._version
    try:
        out = attack.perturb(x, source, streams)
    except WeightsTouched as error:
        raise AttackError(f"{attack.name}: changed the weights of a scorer that it may only ask; {error}") from error
    finally:
        touched = _restored(x, images, before)
        scorers = source.touched()
    if touched:
        raise AttackError(f"{attack.name}: changed its input in place; work on a copy")
    if scorers:
        raise AttackError(f"{attack.name}: changed the weights of {scorers}; a scorer may only be asked")
    if not isinstance(out, Tensor) or out.shape != x.shape:
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise AttackError(f"{attack.name}: expected images of shape {tuple(x.shape)}, found {shape}")
    if not out.is_floating_point():
        raise AttackError(f"{attack.name}: expected floating images in [0, 1], found {out.dtype}")
    moved = out.detach().to(x) - x  # from here on in place: each copy is most of a large image's memory
    low, high = moved.flatten(1).aminmax(dim=1)
    finite = low.isfinite() & high.isfinite()
    moved[~finite] = 0
    moved.clamp_(-attack.eps, attack.eps).add_(x)
    shift = shift_of(images, moved, attack.eps)
    adversarial, unrounded = shifted(images, shift), moved.clamp_(0, 1)
    return Crafted(
        clean=images,
        adversarial=adversarial,
        shift=shift,
        unrounded=unrounded,
        finite=finite.cpu(),
        changed=adversarial.to(x).div_(255).sub_(unrounded).abs_().flatten(1).amax(1) > 1e-6,
    )


def _restored(x: Tensor, images: Tensor, version: int) -> bool:
    """Whether ``x`` was written to; it is then put right, as the next attack is given the same tensor."""
    clean = images.to(x).div_(255)
    # torch's counter sees no write through x.data or x.numpy()
    if touched := x._version != version or not torch.equal(x, clean):
        x.copy_(clean)
    return touched
