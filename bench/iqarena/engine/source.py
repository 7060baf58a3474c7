"""The only model an attack is given: a counted, access-checked view of one scorer or an ensemble of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from iqarena.api import AttackError
from iqarena.api.streams import Streams
from iqarena.engine.score_oracle import Target
from iqarena.engine.scorer import Scorer


class Source:
    """Score and gradient of the mean of ``scorers`` on a batch of clean ``images``, counted per image.

    ``forwards`` and ``backwards`` count what the attack asked for: one of each per member and gradient. What ``memo``
    already holds for these clean images is not evaluated again but is counted, so that an attack's cost is the same
    alone and among others. An attack may evaluate several copies of the images in one call, or some of the images
    only: what it evaluates is shared out over the images. A query attack has a ``target`` beside, or instead of, the
    source; its counts are there.
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
        self._access: Literal["gradient", "score", "gradient+score", "none"] = access
        self._memo: dict[Any, Any] = {} if memo is None else memo
        self._target = target
        self._forwards = self._backwards = 0
        self.zero_gradient: Tensor | None = None  # share of exactly zero entries in the first gradient, per image

    @property
    def forwards(self) -> int:
        """Forward passes per image, of all members together."""
        return -(-self._forwards // len(self._images))

    @property
    def backwards(self) -> int:
        """Backward passes per image, of all members together."""
        return -(-self._backwards // len(self._images))

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
        self._forwards += len(self._scorers) * len(x)
        return torch.stack([s.score(x) for s in self._scorers]).mean(0).to(x)

    def gradient(self, x: Tensor, of: Tensor | None = None) -> Tensor:
        """Mean gradient of the members, ``(N, 3, H, W)``; ``of`` says which of the images these are, if not all."""
        return self.value_and_gradient(x, of)[1]

    def value_and_gradient(self, x: Tensor, of: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean score ``(N,)`` and mean gradient, for the price of the gradient."""
        values, gradients = self.members(x, of)
        return values.mean(0), _mean(gradients)

    def members(self, x: Tensor, of: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scores ``(K, N)`` and gradients ``(K, N, 3, H, W)`` of the K members one by one."""
        return self.smoothed_members(at=x, of=of)

    def smoothed_gradient(
        self, sigma: float | Tensor = 0.0, samples: int = 1, antithetic: bool = False, shared_noise: bool = True
    ) -> Tensor:
        """``1/K Σ_k 1/N Σ_i ∇f_k(x + σ u_i)`` at the clean images; see :meth:`smoothed_members`."""
        return _mean(self.smoothed_members(sigma, samples, antithetic, shared_noise)[1])

    def smoothed_members(
        self,
        sigma: float | Tensor = 0.0,
        samples: int = 1,
        antithetic: bool = False,
        shared_noise: bool = True,
        *,
        at: Tensor | None = None,
        of: Tensor | None = None,
        step: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """``1/N Σ_i f_k(z + σ u_i)`` ``(K, N)`` and the same of ``∇f_k`` ``(K, N, 3, H, W)``, ``u_i ~ N(0, I)``.

        ``z`` is ``at`` (the clean images by default), ``sigma`` a number or one for each image ``(N, 1, 1, 1)``; with
        ``sigma`` 0 all samples are the same, and one is taken. The noise depends on image, seed, repeat and ``step``
        only, and is the same for all members unless ``shared_noise`` is off; ``antithetic`` noise is
        ``u_1, −u_1, u_2, −u_2, …``. At the clean images each member's average stays in the memo: attacks that differ
        in what they do with the gradient, and ensembles that share members, pay for it once.
        """
        self._check_access()
        z = self._images if at is None else at
        if isinstance(sigma, float | int) and sigma == 0:
            samples, antithetic, shared_noise = 1, False, True
        self._forwards += samples * len(self._scorers) * len(z)
        self._backwards += samples * len(self._scorers) * len(z)
        memo = self._memo if z is self._images and step == 0 else {}
        sigmas = tuple(sigma.flatten().tolist()) if isinstance(sigma, Tensor) else sigma
        evaluated = []
        for scorer in self._scorers:
            key = (scorer.model, sigmas, samples, antithetic, shared_noise)
            if key not in memo:
                whose = "" if shared_noise else f" {scorer.model!r}"
                memo[key] = self._smooth(
                    scorer, z, sigma, samples, _Noise(self._streams, antithetic, step, whose, memo)
                )
            evaluated.append(memo[key])
        # stacked, hence new: what the memo holds is not given away
        values, gradients = (torch.stack(some) for some in zip(*evaluated, strict=True))
        if self.zero_gradient is None or self.zero_gradient.isnan().any():
            self._note((_mean(gradients) == 0).double().mean((1, 2, 3)).cpu(), of)
        return values, gradients

    def _note(self, zero: Tensor, of: Tensor | None) -> None:
        """Keep the share of zero entries in the first gradient of each image."""
        if self.zero_gradient is None:
            self.zero_gradient = torch.full((len(self._images),), torch.nan, dtype=torch.float64)
        found = torch.full_like(self.zero_gradient, torch.nan)
        found[slice(None) if of is None else of.cpu()] = zero
        self.zero_gradient = self.zero_gradient.where(~self.zero_gradient.isnan(), found)

    def ranges(self, pictures: Callable[[], Tensor]) -> Tensor:
        """Highest minus lowest score ``(K,)`` of each member over other ``pictures()``; once a run, not counted."""
        self._check_access()

        def extent(scorer: Scorer) -> float:
            scores = scorer.score(pictures())
            return float(scores.max() - scores.min())

        return torch.tensor([s.once(("range", pictures), lambda s=s: extent(s)) for s in self._scorers])

    def per_run(self, make: Callable[[Source, Any], Tensor], keys: Sequence[Hashable]) -> Tensor:
        """``make(source, key)`` for the key of each image, stacked ``(N, …)``: worked out once a run with these
        members, and counted for every image as if it had been worked out for it alone."""
        made, models = [], tuple(scorer.model for scorer in self._scorers)
        for i, key in enumerate(keys):
            result, view = self._scorers[0].once((make, key, models), lambda key=key: self._make(make, key))
            self._forwards += view._forwards
            self._backwards += view._backwards
            if view.zero_gradient is not None:
                self._note(view.zero_gradient, torch.tensor([i]))
            made.append(result)
        return torch.stack(made)

    def _make(self, make: Callable[[Source, Any], Tensor], key: Any) -> tuple[Tensor, Source]:
        view = Source(self._scorers, torch.empty(1), self._streams, access=self._access)
        return make(view, key), view

    def _smooth(
        self, scorer: Scorer, z: Tensor, sigma: float | Tensor, samples: int, noise: Callable[[int, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        if isinstance(sigma, float | int) and sigma == 0:
            return scorer.value_and_gradient(z)
        value, gradient = torch.zeros(len(z), dtype=torch.float64, device=z.device), torch.zeros_like(z)
        for some in torch.arange(samples).split(max(1, scorer.chunk // len(z))):  # copies that fill a micro-batch
            copies = torch.cat([z + sigma * noise(i, z) for i in some.tolist()])
            for v, g in zip(*(part.split(len(z)) for part in scorer.value_and_gradient(copies)), strict=True):
                value += v
                gradient += g
        return value / samples, gradient / samples

    def _check_access(self) -> None:
        if "gradient" not in self._access:
            raise AttackError(f"this attack declares access = {self._access!r} but asked for a gradient")


@dataclass(frozen=True)
class _Noise:
    """The ``i``-th noise of the images, drawn once for all members that share it."""

    streams: Streams
    antithetic: bool
    step: int
    whose: str
    memo: dict[Any, Any]

    def __call__(self, i: int, like: Tensor) -> Tensor:
        draw, mirrored = divmod(i, 2) if self.antithetic else (i, 0)
        purpose = f"smoothing {draw}{f' step {self.step}' if self.step else ''}{self.whose}"
        if purpose not in self.memo:
            self.memo[purpose] = self.streams.shared(purpose).normal(like)
        return -self.memo[purpose] if mirrored else self.memo[purpose]


def _mean(members: Tensor) -> Tensor:
    """Mean over the first axis, of which one is itself."""
    return members[0] if len(members) == 1 else members.mean(0)
