"""The counted view of a source: means, smoothing, counts, memory and access."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from iqarena.api import EXACT, AttackError
from iqarena.api.streams import Streams
from iqarena.engine.score_oracle import ScoreOracle
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.testing import Curved, CurvedNet, Linear, images
from iqarena_attacks._smoothing import Smoothing

PIXELS = images()
X = PIXELS.float() / 255
IDS = [f"image {i}" for i in range(len(X))]
SCORERS = [Scorer(model) for model in (Curved(), Curved(seed=1), Linear())]


def source(scorers: list[Scorer] = SCORERS, **options: Any) -> Source:
    return Source(scorers, X, Streams(IDS, "attack", 5, 2), **options)


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    view = source()
    values, gradients = zip(*(s.value_and_gradient(X) for s in SCORERS), strict=True)
    for x in (X, X.clone()):  # the clean images themselves, and any others
        value, gradient = view.value_and_gradient(x)
        assert torch.equal(value, torch.stack(values).mean(0))
        assert torch.equal(gradient, torch.stack(gradients).mean(0))
        assert torch.equal(view.gradient(x), gradient)
    assert torch.allclose(view.score(X).double(), torch.stack([s.score(X) for s in SCORERS]).mean(0), rtol=1e-6)


def test_one_member_is_itself() -> None:
    assert torch.equal(source(SCORERS[:1]).gradient(X), SCORERS[0].value_and_gradient(X)[1])


def _slow_smoothing(sigma: float, samples: int) -> Tensor:
    """Image by image, member by member, sample by sample."""
    nets = [CurvedNet(0), CurvedNet(1)]
    slow = torch.zeros_like(X, dtype=torch.float64)
    for i, image in enumerate(IDS):
        for net in nets:
            for k in range(samples):
                u = Streams([image], f"smoothing {k}", 5, 2).normal(X[i : i + 1])
                x = (X[i : i + 1] + sigma * u).requires_grad_()
                slow[i] += torch.autograd.grad(net(x).sum(), x)[0][0] / samples / len(nets)
    return slow


@pytest.mark.parametrize(("sigma", "samples"), [(8 / 255, 3), (0.5, 1), (0, 1)])
def test_the_smoothed_gradient_is_the_mean_over_noisy_copies(sigma: float, samples: int) -> None:
    actual = source(SCORERS[:2]).gradient(X, Smoothing(sigma, samples))
    slow = _slow_smoothing(sigma, samples)
    assert torch.allclose(actual.double(), slow, rtol=1e-3, atol=1e-4 * float(slow.abs().max()))


def test_smoothing_averages_towards_the_smoothed_function() -> None:
    """On a linear scorer noise changes nothing; on a curved one more samples come nearer to many samples."""
    linear = source(SCORERS[2:])
    assert torch.allclose(linear.gradient(X, Smoothing(0.2, 4)), linear.gradient(X), rtol=1e-5)
    many = source(SCORERS[:1]).gradient(X, Smoothing(0.1, 64))
    few, one = (source(SCORERS[:1]).gradient(X, Smoothing(0.1, n)) for n in (16, 1))
    assert (few - many).norm() < (one - many).norm() / 2


def test_the_noise_is_that_of_image_seed_and_repeat_only() -> None:
    one = Source(SCORERS, X, Streams(IDS, "fgsm", 5, 2)).gradient(X, Smoothing(0.1, 2))
    assert torch.equal(source().gradient(X, Smoothing(0.1, 2)), one)
    for seed, repeat in ((6, 2), (5, 3)):
        other = Source(SCORERS, X, Streams(IDS, "fgsm", seed, repeat)).gradient(X, Smoothing(0.1, 2))
        assert not torch.equal(other, one)


def test_costs_are_counted_per_member_and_sample() -> None:
    view = source()
    for ask, forwards, backwards in [
        (lambda: view.gradient(X), 3, 3),
        (lambda: view.gradient(X), 3, 3),  # held in memory, counted again
        (lambda: view.value_and_gradient(X + 0.01), 3, 3),
        (lambda: view.score(X), 3, 0),
        (lambda: view.gradient(X, Smoothing(0.1, 4)), 12, 12),
        (lambda: view.of([0, 3]).members(X[[0, 3]]), 2, 2),  # two of five images, rounded up
        (lambda: [one.gradient(X) for one in view.alone()], 3, 3),
    ]:
        before = view.forwards, view.backwards
        ask()
        assert (view.forwards - before[0], view.backwards - before[1]) == (forwards, backwards)


def test_what_is_raised_or_lowered_is_the_objective_and_what_is_kept_is_the_score() -> None:
    """One memo for both ways: multiplying by −1 is exact."""
    sign, memo = torch.tensor([1.0, -1, -1, 1, -1]), {}
    for by in (EXACT, Smoothing(0.1, 2)):
        up, both = source(memo=memo).members(X, by), source(memo=memo, sign=sign).members(X, by)
        for a, b in zip(up, both, strict=True):
            assert torch.equal(a * sign.view(1, -1, *[1] * (a.dim() - 2)), b)
    subset = [4, 0, 1]
    part = source(sign=sign).of(subset)
    assert torch.equal(part.sign, sign[subset].view(-1, 1, 1, 1))
    assert torch.equal(part.gradient(X[subset]), source(sign=sign).gradient(X)[subset])
    assert torch.equal(part.of([1]).gradient(X[:1]), source(sign=sign).gradient(X)[:1])
    assert torch.equal(source(sign=sign).score(X), source().score(X)), "a score is a score"
    with pytest.raises(AttackError, match=r"expected a point for each of 5 images, found 10; see Source\.of"):
        source().gradient(torch.cat([X, X]))


def test_what_is_worked_out_once_is_charged_to_every_image() -> None:
    scorers = [Scorer(Curved()), Scorer(Linear())]
    view, again = source(scorers), source(scorers)
    requested = 0

    def make(one: Any) -> float:
        nonlocal requested
        requested += 1
        one.score(torch.cat([X, X]))
        return float(one.gradient(X[:1]).abs().max())

    actual = {one.of([i]).once("key", make) for one in (view, again) for i in range(5)}
    assert (len(actual), requested) == (1, 1)
    assert (view.forwards, view.backwards) == (again.forwards, again.backwards) == (2, 2), "scores are free"
    assert view.zero_gradient is not None
    assert not view.zero_gradient.isnan().any()
    view.alone()[0].of([0]).once("key", make)
    view.of([0]).once("other", make)
    assert requested == 3, "other members, another key"
    with pytest.raises(AttackError, match="asked for a gradient"):
        source(scorers, access="score").of([0]).once("key", make)


def test_a_memo_saves_evaluations_and_changes_nothing_else() -> None:
    scorers = [Scorer(Curved()), Scorer(Curved(seed=1))]
    memo: dict[Any, Any] = {}
    views = [source(scorers, memo=memo) for _ in range(3)]
    apart = source([Scorer(Curved()), Scorer(Curved(seed=1))])
    for view in views:
        assert torch.equal(view.gradient(X), apart.gradient(X))
        assert torch.equal(view.gradient(X, Smoothing(0.1, 3)), apart.gradient(X, Smoothing(0.1, 3)))
        assert (view.forwards, view.backwards) == (8, 8)
    assert [s.evaluated["gradient"] for s in scorers] == [4 * len(X)] * 2
    assert torch.equal(source(scorers, memo=memo).gradient(X, Smoothing(0.2, 3)), apart.gradient(X, Smoothing(0.2, 3)))
    assert torch.equal(source(scorers, memo=memo).gradient(X, Smoothing(0.1, 1)), apart.gradient(X, Smoothing(0.1, 1)))
    # An ensemble that shares a member pays for the new one only.
    wider = [*scorers, Scorer(Linear())]
    assert torch.equal(source(wider, memo=memo).gradient(X), source(wider).gradient(X))
    assert wider[0].evaluated["gradient"] == 9 * len(X), "once for the memo, and once by the view without one"


def test_what_an_attack_does_to_a_gradient_stays_with_it() -> None:
    for scorers in (SCORERS[:1], SCORERS):
        memo: dict[Any, Any] = {}
        for ask in (lambda view: view.gradient(X), lambda view: view.gradient(X, Smoothing(0.1, 2))):
            expected = ask(source(scorers)).clone()
            ask(source(scorers, memo=memo)).zero_()
            assert torch.equal(ask(source(scorers, memo=memo)), expected)


def test_other_images_are_never_taken_from_the_memo() -> None:
    view = source(SCORERS[:1])
    view.gradient(X)
    moved = X + 0.1
    assert torch.equal(view.gradient(moved), SCORERS[0].value_and_gradient(moved)[1])


def test_the_share_of_zero_gradient_is_that_of_the_first_one() -> None:
    view = source(SCORERS[:1])
    assert view.zero_gradient is None
    gradient = view.gradient(X)
    assert view.zero_gradient is not None
    assert torch.equal(view.zero_gradient, (gradient == 0).double().flatten(1).mean(1))
    first = view.zero_gradient
    view.gradient(X + 0.1)
    assert view.zero_gradient is first


def test_access_is_checked() -> None:
    for access in ("score", "none"):
        view = source(access=access)
        for ask in (
            lambda view=view: view.gradient(X),
            lambda view=view: view.gradient(X + 0.1),
            lambda view=view: view.gradient(X, Smoothing(0.1, 2)),
        ):
            with pytest.raises(AttackError, match=f"access = '{access}' but asked for a gradient"):
                ask()
        assert (view.forwards, view.backwards) == (0, 0)
    for access in ("score", "none"):
        with pytest.raises(AttackError, match=f"access = '{access}' but asked for a score of the source"):
            source(access=access).score(X)
    requested = ScoreOracle(SCORERS[0], PIXELS, SCORERS[0].score(X), eps=1.0, budget=9)
    for access in ("gradient", "none"):
        with pytest.raises(AttackError, match=f"access = '{access}' but asked for the target"):
            _ = source(access=access, target=requested).target
    with pytest.raises(AttackError, match="asked for the target"):
        _ = source(access="score").target
    both = source(access="gradient+score", target=requested)
    assert both.target is requested
    assert torch.equal(both.gradient(X), source().gradient(X))
    assert (both.forwards, both.backwards, requested.queries.tolist()) == (3, 3, [1] * 5)


def test_a_memo_does_not_open_a_closed_door() -> None:
    memo: dict[Any, Any] = {}
    source(memo=memo).gradient(X)
    with pytest.raises(AttackError, match="asked for a gradient"):
        source(memo=memo, access="score").gradient(X)
