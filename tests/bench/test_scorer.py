"""Loaded scorers: frozen, exact gradients, results that do not depend on the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from iqarena.api import AttackError, ImageError, Model
from iqarena.engine.scorer import Scorer
from iqarena.errors import ScorerError
from iqarena.registry.tables import build_model
from iqarena.testing import Curved, CurvedNet, Linear, LinearNet, images

X = images().float() / 255


class Shaped(CurvedNet):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, None]


@dataclass(frozen=True, kw_only=True, repr=False)
class Column(Model):
    name = "column"

    def load(self) -> nn.Module:
        return Shaped(0)


class Dropping(CurvedNet):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(x, 0.5, self.training))


@dataclass(frozen=True, kw_only=True, repr=False)
class Training(Model):
    """Arrives in training mode, with weights that ask for gradients."""

    name = "training"

    def load(self) -> nn.Module:
        return Dropping(0).train()


def test_the_gradient_of_a_linear_scorer_is_its_weights() -> None:
    scorer = Scorer(Linear())
    weights = cast(LinearNet, scorer.module).weights(X)
    value, gradient = scorer.value_and_gradient(X)
    assert torch.equal(gradient, weights.expand_as(X))
    assert gradient.dtype == torch.float32
    assert gradient.is_contiguous()
    expected = 50 + ((X.double() - 0.5) * weights.double()).sum((1, 2, 3))
    for actual in (value, scorer.score(X)):
        assert actual.dtype == torch.float64
        assert torch.allclose(actual, expected, rtol=0, atol=1e-4)


def test_one_gradient_of_a_batch_is_that_of_each_image() -> None:
    x = X.clone().requires_grad_()
    (expected,) = torch.autograd.grad(CurvedNet(0)(x).sum(), x)
    assert torch.allclose(Scorer(Curved()).value_and_gradient(X)[1], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 2, 3, 8])
def test_any_micro_batch_is_filled_up_and_cut_back(chunk: int) -> None:
    """On a GPU micro-batches are larger than one; the size of what is asked must still not matter, bit for bit."""
    scorer, reference = Scorer(Curved()), Scorer(Curved())
    scorer.chunk = chunk
    value, gradient = scorer.value_and_gradient(X)
    assert value.shape == (5,)
    assert gradient.shape == X.shape
    assert torch.allclose(scorer.score(X), reference.score(X), rtol=1e-6)
    assert torch.allclose(gradient, reference.value_and_gradient(X)[1], rtol=1e-3, atol=1e-6)
    assert torch.equal(torch.cat([scorer.score(X[i : i + 1]) for i in range(5)]), scorer.score(X))
    assert torch.equal(torch.cat([scorer.value_and_gradient(X[i : i + 1])[1] for i in range(5)]), gradient)


def test_evaluations_are_counted_by_image() -> None:
    scorer = Scorer(Curved())
    scorer.chunk = 4
    scorer.score(X)
    scorer.value_and_gradient(X[:3])
    assert (scorer.evaluated["forward"], scorer.evaluated["gradient"]) == (5, 3)


def test_weights_are_frozen_and_the_mode_is_evaluation() -> None:
    scorer = Scorer(Training())
    assert torch.equal(scorer.score(X), scorer.score(X)), "dropout is off"
    scorer.value_and_gradient(X)
    assert not any(part.training for part in scorer.module.modules())
    assert all(p.grad is None and not p.requires_grad for p in scorer.module.parameters())


def test_results_carry_no_graph_and_may_be_used_in_one() -> None:
    scorer = Scorer(Curved())
    value, gradient = scorer.value_and_gradient(X.clone().requires_grad_())
    for result in (scorer.score(X), value, gradient):
        assert not result.requires_grad
        assert not result.is_inference()


def test_a_gradient_may_be_asked_where_gradients_are_off() -> None:
    scorer = Scorer(Curved())
    with torch.no_grad():
        actual = scorer.value_and_gradient(X)
    expected = scorer.value_and_gradient(X)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


def test_the_input_stays_as_it_was() -> None:
    x = X.clone()
    Scorer(Curved()).value_and_gradient(x)
    Scorer(Curved()).score(x)
    assert torch.equal(x, X)
    assert x.grad is None
    assert not x.requires_grad


class Stamping(CurvedNet):
    """Writes into its input past autograd's counter."""

    def forward(self, x: Tensor) -> Tensor:
        scores = super().forward(x)
        x.data.add_(0.1)
        return scores


class Learning(CurvedNet):
    """Its weights drift as it is asked."""

    def forward(self, x: Tensor) -> Tensor:
        self.last.data.mul_(1.001)
        return super().forward(x)


@dataclass(frozen=True, kw_only=True, repr=False)
class Misbehaving(Model):
    name = "misbehaving"

    net: type[CurvedNet] = Stamping

    def load(self) -> nn.Module:
        return self.net(0)


@pytest.mark.parametrize("ask", ["score", "value_and_gradient"])
@pytest.mark.parametrize(
    ("net", "words"), [(Stamping, "changed its input in place"), (Learning, "changes its own weights")]
)
def test_a_scorer_that_writes_where_it_should_not_is_named(ask: str, net: type[CurvedNet], words: str) -> None:
    scorer, x = Scorer(Misbehaving(net=net)), X.clone()
    with pytest.raises(ScorerError, match=f"^misbehaving.*: {words}"):
        getattr(scorer, ask)(x)
    assert torch.equal(x, X), "what the attack and the other scorers are given"


@pytest.mark.parametrize("ask", ["score", "value_and_gradient"])
def test_weights_that_somebody_wrote_into_score_nothing(ask: str) -> None:
    scorer = Scorer(Curved())
    before = scorer.score(X)
    for write in (
        lambda net: net.last.data.mul_(2),
        lambda net: net.first.detach().numpy().fill(0),
        lambda net: setattr(net, "last", nn.Parameter(net.last + 1)),
        lambda net: setattr(net.last, "data", net.last.data + 1),
    ):
        write(scorer.module)
        with pytest.raises(ScorerError, match=r"^toy_curved\(seed=0\): its weights were changed from outside"):
            getattr(scorer, ask)(X)
        assert torch.equal(scorer.score(X), before), "loaded anew"


class Scaled(CurvedNet):
    """With a number that belongs to no checkpoint."""

    scale: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.register_buffer("scale", torch.ones(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


def test_buffers_that_no_checkpoint_has_are_watched_too() -> None:
    scorer = Scorer(Misbehaving(net=Scaled))
    next(scorer.module.buffers()).mul_(2)
    with pytest.raises(ScorerError, match="were changed from outside"):
        scorer.score(X)


def test_what_was_worked_out_with_weights_that_another_thread_found_changed_is_worked_out_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scorer, plain = Scorer(Curved()), CurvedNet.forward
    before = scorer.score(X[:1])
    next(scorer.module.parameters()).mul_(2)

    def meanwhile(net: CurvedNet, x: Tensor) -> Tensor:
        monkeypatch.setattr(CurvedNet, "forward", plain)
        scores = plain(net, x)
        assert not scorer.intact(), "another thread looks, and loads them anew"
        return scores

    monkeypatch.setattr(CurvedNet, "forward", meanwhile)
    assert torch.equal(scorer.score(X[:1]), before)


def test_the_watch_over_weights_and_input_costs_the_same_few_operations_whatever_the_scorer() -> None:
    """ATen operations of a score beyond those of the bare module: by tensor of weights, none."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.calls = getattr(self, "calls", 0) + 1
            return func(*args, **(kwargs or {}))

    extra = []
    for net in (CurvedNet(0), nn.Sequential(nn.Flatten(), *(nn.Linear(8, 8) for _ in range(40)), nn.Flatten(0))):

        @dataclass(frozen=True, kw_only=True, repr=False)
        class Counted(Model):
            name = "counted"
            channels_last = False

            def load(self, net: nn.Module = net) -> nn.Module:
                return net

        x = torch.rand(1, 3, 16, 16) if isinstance(net, CurvedNet) else torch.rand(1, 1, 2, 4)
        if not isinstance(net, CurvedNet):
            net[-2] = nn.Linear(8, 1)
        scorer = Scorer(Counted())
        with Counting() as counted:
            scorer.score(x)
        with Counting() as bare, torch.inference_mode():
            net(x)
        extra.append(counted.calls - bare.calls)
    assert extra[0] == extra[1] <= 16


def test_half_precision_is_near_and_still_reported_in_double() -> None:
    full, half = Scorer(Curved()), Scorer(Curved(), precision="bf16")
    assert half.score(X).dtype == torch.float64
    assert not torch.equal(full.score(X), half.score(X))
    assert torch.allclose(full.score(X), half.score(X), atol=0.5)
    assert half.value_and_gradient(X)[1].dtype == torch.float32


def test_mistakes_are_named() -> None:
    with pytest.raises(
        ImageError, match=r"toy_curved\(seed=0\) needs images of at least 16 pixels a side, found 40×15"
    ):
        Scorer(Curved()).score(torch.zeros(1, 3, 15, 40))
    with pytest.raises(AttackError, match=r"column returned scores of shape \(1, 1\), expected \(1,\)"):
        Scorer(Column()).score(X)
    with pytest.raises(AttackError, match="toy_step has no gradient"):
        Scorer(build_model("toy_step")).value_and_gradient(X)
    assert Scorer(build_model("toy_step")).score(X).tolist() == [float((100 * p.mean()).round()) for p in X]


class Forgotten(CurvedNet):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach())


@dataclass(frozen=True, kw_only=True, repr=False)
class Detached(Model):
    name = "detached"

    def load(self) -> nn.Module:
        return Forgotten(0)


def test_a_gradient_that_is_declared_but_not_there_is_named() -> None:
    with pytest.raises(AttackError, match="detached has no gradient"):
        Scorer(Detached()).value_and_gradient(X)
