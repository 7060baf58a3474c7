"""The only model an attack is given: a counted, access-checked view of one scorer or an ensemble of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from iqarena.api import AttackError
from iqarena.scorer import Scorer
from iqarena.seeding import Streams
from iqarena.target import Target


class Source:
    """Score and gradient of the mean of ``scorers`` on a batch of clean ``images``, counted per image.

    ``forwards`` and ``backwards`` count what the attack asked for: one of each per member and gradient. What ``memo``
    already holds for these clean images is not evaluated again but is counted, so that an attack's cost is the same
    alone and among others. A query attack has a ``target`` beside, or instead of, the source; its counts are there.
    """

    def __init__(
        self,
        scorers: Sequence[Scorer],
        images: Tensor,
        streams: Streams,
        *,
        access: Literal["gradient", "score", "gradient+score", "none"] = "gradient",
        memo: dict[Any, Any] | None = None,
        target: Target | None = None,
    ) -> None:
        self._scorers = tuple(scorers)
        self._images = images
        self._streams = streams
        self._access = access
        self._memo: dict[Any, Any] = {} if memo is None else memo
        self._target = target
        self.forwards = self.backwards = 0
        self.zero_gradient: Tensor | None = None  # share of exactly zero entries in the first gradient, per image

    @property
    def target(self) -> Target:
        """The target, for an attack that may ask for its scores."""
        if self._target is None or "score" not in self._access:
            raise AttackError(f"this attack declares access = {self._access!r} but asked for the target")
        return self._target

    def score(self, x: Tensor) -> Tensor:
        """Mean score of the members, ``(N,)`` on 0–100."""
        if "gradient" not in self._access:
            raise AttackError(f"this attack declares access = {self._access!r} but asked for a score of the source")
        self.forwards += len(self._scorers)
        return torch.stack([s.score(x) for s in self._scorers]).mean(0).to(x)

    def gradient(self, x: Tensor) -> Tensor:
        """Mean gradient of the members, ``(N, 3, H, W)``."""
        return self.value_and_gradient(x)[1]

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean score ``(N,)`` and mean gradient, for the price of the gradient."""
        if x is self._images:
            return self._mean([self._once(s, 0.0, 1) for s in self._scorers], 1)
        self._check_access()
        return self._mean([s.value_and_gradient(x) for s in self._scorers], 1)

    def smoothed_gradient(self, sigma: float, samples: int) -> Tensor:
        """``1/K Σ_k 1/N Σ_i ∇f_k(x + σ u_i)`` at the clean images, ``u_i ~ N(0, I)`` shared by all members.

        The noise depends on image, seed and repeat only, and each member's average stays in the memo: attacks that
        differ in what they do with the gradient, and ensembles that share members, pay for it once. With ``sigma`` 0
        all samples are the same, and one is taken.
        """
        samples = samples if sigma > 0 else 1
        return self._mean([self._once(s, sigma, samples) for s in self._scorers], samples)[1]

    def _once(self, scorer: Scorer, sigma: float, samples: int) -> tuple[Tensor, Tensor]:
        self._check_access()
        key = (scorer.model, sigma, samples)
        if key not in self._memo:
            self._memo[key] = self._smooth(scorer, sigma, samples)
        return self._memo[key]

    def _smooth(self, scorer: Scorer, sigma: float, samples: int) -> tuple[Tensor, Tensor]:
        x = self._images
        if sigma == 0:
            return scorer.value_and_gradient(x)
        values, total = torch.zeros(len(x), dtype=torch.float64, device=x.device), torch.zeros_like(x)
        for i in range(samples):
            value, gradient = scorer.value_and_gradient(x + sigma * self._noise(i))
            values += value
            total += gradient
        return values / samples, total / samples

    def _noise(self, i: int) -> Tensor:
        """The ``i``-th noise of these images, drawn once for all members."""
        key = ("noise", i)
        if key not in self._memo:
            self._memo[key] = self._streams.shared(f"smoothing {i}").normal(self._images)
        return self._memo[key]

    def _check_access(self) -> None:
        if "gradient" not in self._access:
            raise AttackError(f"this attack declares access = {self._access!r} but asked for a gradient")

    def _mean(self, evaluated: list[tuple[Tensor, Tensor]], samples: int) -> tuple[Tensor, Tensor]:
        self.forwards += samples * len(evaluated)
        self.backwards += samples * len(evaluated)
        value = torch.stack([v for v, _ in evaluated]).mean(0)
        gradients = [g for _, g in evaluated]
        # new even for one: what the memo holds is not given away
        gradient = gradients[0].clone() if len(gradients) == 1 else torch.stack(gradients).mean(0)
        if self.zero_gradient is None:
            self.zero_gradient = (gradient == 0).double().mean((1, 2, 3)).cpu()
        return value, gradient
