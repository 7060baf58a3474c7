"""Scorers on a device whose memory runs out: smaller micro-batches, one scorer at a time, the same results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from weakref import WeakSet

import pytest
import torch
from torch import Tensor, nn

from iqarena.api import ImageError, Model
from iqarena.engine import resident
from iqarena.engine.scorer import Scorer
from iqarena.testing import CurvedNet, Linear, images

X = images().float() / 255


class Hungry(CurvedNet):
    """Runs out of memory above ``room`` images, or as long as another module is on the device."""

    headroom = 8
    requested: ClassVar[list[int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.requested.append(len(x))
        if len(x) > self.headroom:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return super().forward(x)


@dataclass(frozen=True, kw_only=True, repr=False)
class Large(Model):
    name = "large"

    def load(self) -> nn.Module:
        return Hungry(0)


@pytest.fixture
def hungry(monkeypatch: pytest.MonkeyPatch) -> Scorer:
    monkeypatch.setattr(Hungry, "requested", [])
    monkeypatch.setattr(resident, "_on_device", WeakSet())  # nobody else's
    monkeypatch.setattr(resident, "_short", set())
    scorer = Scorer(Large())
    scorer.chunk = 4
    return scorer


def test_less_memory_means_smaller_micro_batches_and_the_same_results(
    hungry: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, (values, gradients) = hungry.score(X), hungry.value_and_gradient(X)
    assert hungry.chunk == 4
    monkeypatch.setattr(Hungry, "headroom", 1)
    Hungry.requested.clear()
    assert torch.allclose(hungry.score(X), scores, rtol=1e-6)
    assert Hungry.requested == [4, 2, *[1] * 5]
    assert hungry.chunk == 1
    again = hungry.value_and_gradient(X)
    assert torch.allclose(again[0], values, rtol=1e-6)
    assert torch.allclose(again[1], gradients, rtol=1e-3, atol=1e-6)
    assert (hungry.evaluated["forward"], hungry.evaluated["gradient"]) == (10, 10), (
        "what was tried in vain is not counted"
    )


def test_when_one_image_does_not_fit_the_error_says_what_helps(hungry: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hungry, "headroom", 0)
    with pytest.raises(ImageError, match=r"large: the memory of cpu does not hold one image .* max_side=…\) or use"):
        hungry.score(X)


def test_when_memory_is_short_one_scorer_at_a_time_is_on_the_device(
    hungry: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source and its target take turns, and only the first turn is one that fails."""
    source, forward, failures = Scorer(Linear()), Hungry.forward, []
    expected = source.score(X), hungry.score(X)
    assert set(resident._on_device) == {source, hungry}, "as long as there is room, both stay"

    def crowded(module: Hungry, x: Tensor) -> Tensor:
        if len(resident._on_device) > 1:
            failures.append(len(x))
            raise torch.cuda.OutOfMemoryError("out of memory")
        return forward(module, x)

    monkeypatch.setattr(Hungry, "forward", crowded)
    for _ in range(3):
        assert torch.equal(hungry.score(X), expected[1])
        assert set(resident._on_device) == {hungry}
        assert torch.equal(source.score(X), expected[0])
        assert set(resident._on_device) == {source}
    assert failures == [4]
    assert hungry.chunk == 4


def test_other_scorers_leave_the_device_before_batches_shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_short", set())
    moves: list[tuple[str, str]] = []
    to = nn.Module.to

    def watched(module: nn.Module, *args: object, **options: object) -> nn.Module:
        if args:
            moves.append((type(module).__name__, str(args[0])))
        return to(module, *args, **options)  # pyright: ignore

    first, second = Scorer(Linear()), Scorer(Large())
    second.chunk = 4
    expected = second.score(X)
    monkeypatch.setattr(nn.Module, "to", watched)
    forward = Hungry.forward

    def crowded(module: Hungry, x: Tensor) -> Tensor:
        if first in resident._on_device:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return forward(module, x)

    monkeypatch.setattr(Hungry, "forward", crowded)
    assert torch.equal(second.score(X), expected)
    assert second.chunk == 4, "room was found without smaller batches"
    assert ("LinearNet", "cpu") in moves
    moves.clear()
    first.score(X)
    assert moves == [("Hungry", "cpu"), ("LinearNet", "cpu")], "it comes back when it is asked, and the other leaves"
