"""A scorer behind :mod:`iqarena_models.defenses.median_smoothing`; a file of its own, since it needs torch."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from scipy.stats import binom, norm
from torch import Tensor

from iqarena.api.purified import RandomPurified

if TYPE_CHECKING:
    from iqarena_models.defenses.median_smoothing import MedianSmoothing


class Smoothed(RandomPurified):
    """Images ``(N, 3, H, W)`` in [0, 1] → the median ``(N,)`` of the scores of their noisy copies."""

    purification: MedianSmoothing

    def forward(self, x: Tensor) -> Tensor:
        ranked = self._ranked(x)
        n = ranked.shape[1]
        median = (ranked[:, (n - 1) // 2] + ranked[:, n // 2]) / 2
        if not x.requires_grad:
            return median
        mean = super().forward(x)
        return median + (mean - mean.detach())

    def certificate(self, x: Tensor) -> Tensor:
        """Lower and upper bound ``(N, 2)`` of the exact median score, see :class:`iqarena.api.Certified`.

        They hold, with the defense's ``confidence`` over the noise, for every image within the ℓ2 distance ``radius``
        of ``x``; infinite where ``n`` draws allow no bound.
        """
        defense, ranked = self.purification, self._ranked(x)
        infinity = ranked.new_full((len(x), 1), torch.inf)
        rank = lower_rank(defense.n, float(norm.cdf(-defense.radius / defense.sigma)), (1 - defense.confidence) / 2)
        ranked = torch.cat([-infinity, ranked, infinity], 1)  # rank 0 and, from above, rank n + 1
        return ranked[:, [rank, defense.n + 1 - rank]]

    @torch.no_grad()
    def _ranked(self, x: Tensor) -> Tensor:
        """The scores ``(N, n)`` of each image's noisy copies, ascending."""
        return torch.stack([self.scorer(self.purify(x, k)) for k in range(self.purification.n)], 1).sort(1).values


@cache
def lower_rank(n: int, p: float, alpha: float) -> int:
    """The highest rank of ``n`` draws whose value is above the ``p``-quantile with a probability of at most ``alpha``.

    Rank 1 is the smallest draw, 0 none of them. The k-th smallest is above the quantile if fewer than k draws are
    below, and each is with a probability of p.
    """
    return int(binom.ppf(alpha, n, p))  # the smallest number of draws whose distribution function reaches alpha
