"""Why a perturbation transfers: how it relates to the target's own gradient, its spectrum, what filters left of it.

The targets of a suite are known to the harness, never to the attack. All are measured on the stored 8-bit image; with
``δ`` its difference from the clean one, ``s`` the direction and ``∇f`` the target's gradient at the clean image::

    cosine           s·δ · ∇f / (‖δ‖ ‖∇f‖)
    sign_agreement   share of equal signs of s·δ and ∇f, among the values where neither is 0; by chance 1/2
    energy_…         share of ‖F(δ)‖² at radial frequencies low < 1/6 ≤ middle < 1/3 ≤ high, in cycles per pixel;
                     white noise has 0.087, 0.262, 0.651
    …_kept           ‖M(t)‖² / ‖t‖² of what the attack gave its filter: a gradient (filter) or a perturbation (mask)
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor

from iqarena.api import Attack, AttackError, Filter
from iqarena.api.streams import Streams
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.worker.batch import Batch

KEPT = {"gradient_filter": "filter_kept", "mask": "mask_kept"}  # parameter of an attack → column
_LOW, _HIGH = 1 / 6, 1 / 3


@dataclass(frozen=True, kw_only=True, repr=False)
class Watched(Filter):
    """A filter that notes which share of the energy it lets through, ``(N,)`` for every call."""

    filter: Filter
    kept: list[Tensor] = field(default_factory=list, compare=False)

    def __repr__(self) -> str:
        return repr(self.filter)

    @property
    def stochastic(self) -> bool:
        return self.filter.stochastic

    def __call__(self, t: Tensor, x: Tensor, streams: Streams) -> Tensor:
        out = self.filter(t, x, streams)
        self.kept.append(torch.stack([after.square().sum() / before.square().sum() for after, before in zip(out, t)]))
        return out


def watched(attack: Attack) -> tuple[Attack, dict[str, Watched]]:
    """The same attack with its filters watched, and those by column."""
    filters = {name: getattr(attack, name, None) for name in KEPT}
    eyes = {name: Watched(filter=one) for name, one in filters.items() if isinstance(one, Filter)}
    return dataclasses.replace(attack, **eyes), {KEPT[name]: eye for name, eye in eyes.items()}


def own_diagnostics(towards: Tensor, filters: dict[str, Watched]) -> list[dict[str, float]]:
    """Per image, the columns that are the same for all targets; ``towards`` is ``s·δ`` ``(N, 3, H, W)``."""
    columns = [_bands(one) for one in towards]
    for name, eye in filters.items():
        for column, share in zip(columns, torch.stack(eye.kept).mean(0).tolist() if eye.kept else ()):
            column[name] = share
    return columns


def target_diagnostics(scorer: Scorer, batch: Batch, towards: Tensor | None) -> list[dict[str, float]]:
    """Per image, the columns of one target; none without ``towards`` (``s·δ``) or without a gradient."""
    gradient = None if towards is None else _gradient(scorer, batch)
    if towards is None or gradient is None:
        return [{}] * len(batch.items)
    pairs = zip(towards, gradient, strict=True)
    return [{"cosine": _cosine(a, b), "sign_agreement": _equal_signs(a, b)} for a, b in pairs]


def _gradient(scorer: Scorer, batch: Batch) -> Tensor | None:
    """The target's gradient at the clean images, from the memo of sources where an attack has asked for it."""
    key = ("target", scorer.model)
    if key not in batch.gradients:
        view = Source([scorer], batch.x, Streams([item.id for item in batch.items], ""), memo=batch.gradients)
        try:
            batch.gradients[key] = view.gradient(batch.x) if scorer.model.differentiable else None
        except AttackError:
            batch.gradients[key] = None
    return batch.gradients[key]


def _cosine(a: Tensor, b: Tensor) -> float:
    a, b = a.double().flatten(), b.double().flatten()
    return float(a @ b / (a.norm() * b.norm()))  # NaN when one is zero


def _equal_signs(a: Tensor, b: Tensor) -> float:
    product = a.sign() * b.sign()
    return float((product > 0).sum() / (product != 0).sum())


def _bands(delta: Tensor) -> dict[str, float]:
    """Shares of the energy of ``(3, H, W)`` in three bands; NaN when there is none."""
    height, width = delta.shape[-2:]
    fy, fx = (torch.fft.fftfreq(n, device=delta.device) for n in (height, width))
    radius = (fy[:, None].square() + fx.square()).sqrt()
    power = torch.fft.fft2(delta).abs().square().sum(0)
    low, up_to_middle = (power[radius < edge].sum() for edge in (_LOW, _HIGH))
    shares = torch.stack([low, up_to_middle - low, power.sum() - up_to_middle]) / power.sum()
    return dict(zip(("energy_low", "energy_middle", "energy_high"), shares.tolist(), strict=True))
