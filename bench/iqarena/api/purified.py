"""A scorer behind a purification, and the gradient that a white-box attack goes by.

``score(x) = f(T_0(x))`` with ``T_0`` the image's own draw. With the gradient switched on, the value is the same and::

    gradient = 1/K Σ_k ∇ f(T_k(x))       k = 0 … K−1, K the declared draws; 1 for a purification that draws nothing

where the Jacobian of a ``T`` that is not differentiable is taken to be the identity (straight-through; BPDA: Athalye,
Carlini, Wagner, Obfuscated Gradients Give a False Sense of Security, ICML 2018, arXiv 1802.00420).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from iqarena.api.streams import Streams

if TYPE_CHECKING:
    from iqarena.api.purification import Purification, RandomPurification


class Purified(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1] → the scores ``(N,)`` that ``scorer`` gives the purified ones."""

    def __init__(self, purification: Purification, scorer: nn.Module) -> None:
        super().__init__()
        self.purification, self.scorer = purification, scorer

    def forward(self, x: Tensor) -> Tensor:
        return self.scorer(self.purify(x))

    def purify(self, x: Tensor, draw: int = 0) -> Tensor:
        """The images under their ``draw``-th draw, in full precision; the first draw is the one that is scored."""
        with torch.autocast(x.device.type, enabled=False):
            return self._purify(x, draw)

    def _purify(self, x: Tensor, draw: int) -> Tensor:
        streams = self._streams(x, draw)
        if self.purification.differentiable:
            return self.purification.apply(x, streams)
        with torch.no_grad():
            purified = self.purification.apply(x.detach(), streams)
        return purified + (x - x.detach())

    def _streams(self, x: Tensor, draw: int) -> Streams:
        return Streams([""] * len(x), "")


class RandomPurified(Purified):
    """The same where the purification draws."""

    purification: RandomPurification

    def forward(self, x: Tensor) -> Tensor:
        own = super().forward(x)
        if not x.requires_grad:
            return own
        others = (self.scorer(self.purify(x, k)) for k in range(1, self.purification.draws))
        mean = torch.stack([own, *others]).mean(0)
        return own.detach() + mean - mean.detach()

    def _streams(self, x: Tensor, draw: int) -> Streams:
        return Streams(_pixels(x), self.purification.name, self.purification.seed, draw)


def _pixels(x: Tensor) -> list[str]:
    """A hash of each image's pixels."""
    return [hashlib.sha256(one.tobytes()).hexdigest() for one in x.detach().float().cpu().contiguous().numpy()]
