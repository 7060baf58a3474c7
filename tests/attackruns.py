"""Attacks run on toy scorers: what the tests of attacks share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from iqarena.api import Model
from iqarena.api.streams import Streams
from iqarena.engine.craft import Crafted, craft
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.registry.tables import build_attack
from iqarena.testing import Curved, Linear, LinearNet, images

CURVED = (Curved(),)
ENSEMBLE = (Curved(), Curved(seed=1), Linear())
BOTH = torch.tensor([1.0, -1.0, 1.0, -1.0])


# Attacks of 24 to 200 gradients, with fewer: the checks ask for some 25 runs. And the default kernel of TIFGSM blurs
# the gradients of the toys until another draw makes no difference.
SHORT = {
    "admix": "admix(steps=3, scales=2)",
    "si_fgsm": "si_fgsm(steps=3)",
    "ssa": "ssa(steps=3, samples=3)",
    "torchattacks.SINIFGSM": "torchattacks.SINIFGSM(steps=3)",
    "torchattacks.TIFGSM": "torchattacks.TIFGSM(steps=4, len_kernel=3)",
    "uap": "uap(steps=8)",
    "vmi_fgsm": "vmi_fgsm(steps=3, samples=3)",
    "vni_fgsm": "vni_fgsm(steps=3, samples=3)",
}


class Run:
    """One attack on four images: raw result, sealed result and the counted source."""

    def __init__(
        self,
        spec: str,
        models: Sequence[Model] = CURVED,
        direction: Tensor = BOTH,
        *,
        size: tuple[int, int] = (32, 40),
        memo: dict[Any, Any] | None = None,
    ) -> None:
        attack = self.attack = build_attack(spec)
        self.direction = direction
        self.pixels = images(range(len(direction)), size)
        self.x = self.pixels.float() / 255
        self.scorers = [Scorer(model) for model in models]
        streams = Streams([f"picture {i}" for i in range(len(direction))], repr(attack))
        self.source = Source(self.scorers, self.x, streams, sign=direction, access=attack.access, memo=memo)
        self.crafted: Crafted = craft(attack, self.pixels, self.x, self.source, streams)

    @cached_property
    def raw(self) -> Tensor:
        streams = Streams([f"picture {i}" for i in range(len(self.x))], repr(self.attack))
        source = Source(self.scorers, self.x, streams, sign=self.direction, access=self.attack.access)
        return self.attack.perturb(self.x, source, streams)

    def gains(self, images: Tensor) -> Tensor:
        scorer = self.scorers[0]
        return self.direction * (scorer.score(images) - scorer.score(self.x))


def best_gains(run: Run) -> Tensor:
    """``Σ |w| · min(eps, room)``: every pixel goes as far as the budget and the box allow."""
    weights = run.scorers[0].module
    assert isinstance(weights, LinearNet)
    w = run.direction.view(-1, 1, 1, 1) * weights.weights(run.x)
    headroom = torch.where(w > 0, 1 - run.x, run.x)
    return (w.abs() * headroom.clamp(max=8 / 255)).double().sum((1, 2, 3))


class BentNet(LinearNet):
    """A linear scorer of which every pixel pulls the other way, with 3/8 of its weight, in one half of 16 grey levels.

    Attacks on it differ in many pixels when one of their parameters differs a little, and in none by rounding: the
    weights are ±1/1024, so that up to ten of the two slopes never cancel, and pixels that move by fifths of a grey
    level stay 1/320 of one away from every bend. Noise of the last bit in points and gradients changes no pixel.
    """

    def weights(self, x: Tensor) -> Tensor:
        slope = torch.where((16 * x + 0.25).frac() > 0.5, 1.0, -0.375)
        return slope * (super().weights(x).sign() / 1024)


@dataclass(frozen=True, kw_only=True, repr=False)
class Bent(Model):
    name = "bent"

    def load(self) -> nn.Module:
        return BentNet(0)


def assert_equal_pixels(
    ours: str, theirs: str, models: Sequence[Model], direction: Tensor = BOTH, size: tuple[int, int] = (32, 40)
) -> None:
    a, b = (Run(spec, models, direction, size=size) for spec in (ours, theirs))
    assert not torch.equal(a.raw, a.x)
    assert torch.equal(a.raw.clamp(0, 1), b.raw)  # our one-step attack leaves the box to the frame
    assert torch.equal(a.crafted.adversarial, b.crafted.adversarial)
    assert (a.source.forwards, a.source.backwards) == (b.source.forwards, b.source.backwards)


def assert_same_up_to_rounding(
    ours: str, theirs: str, models: Sequence[Model], *, share: float, size: tuple[int, int] = (32, 40)
) -> None:
    """At most that ``share`` of the pixels differs, and the gains differ by at most 5 %.

    For attacks that round a momentum or a point differently in its last bit: a pixel whose momentum is nearly zero goes
    either way then. Its own weight in the score is nearly zero too, but the next gradients of other pixels differ.
    """
    a, b = (Run(spec, models, size=size) for spec in (ours, theirs))
    assert (a.crafted.adversarial != b.crafted.adversarial).double().mean() <= share
    gains = [run.gains(run.crafted.adversarial.float() / 255) for run in (a, b)]
    assert gains[0].min() > 0
    assert gains[1].tolist() == pytest.approx(gains[0].tolist(), rel=0.05)
    assert (a.source.forwards, a.source.backwards) == (b.source.forwards, b.source.backwards)
