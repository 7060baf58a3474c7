"""Checks of scorers."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from iqarena.api import AttackError, ImageError, Model
from iqarena.engine.scale import off_scale
from iqarena.engine.scorer import Scorer
from iqarena.testing.plugins import Check, assert_frozen, named, plugin_checks, state
from iqarena.testing.toys import ROWS, images

STEP, MOVE = 2e-5, 0.05  # of a finite difference: its largest step, and the most that it should move a score


def check_model(model: Model) -> Iterator[Check]:
    """Named checks of a scorer; its weights are loaded by the first that needs them."""
    yield from plugin_checks("model", model)
    checks = [_model_states_facts, _model_loads_the_same, _model_scores, _model_ignores_neighbours, _model_stays_frozen]
    checks += [_model_takes_any_size]
    if model.min_size > 1:
        checks += [_model_refuses_small_images]
    if not model.stochastic:
        checks += [_model_repeats, _model_draws_nothing]
    if not model.differentiable:
        checks += [_model_refuses_gradients]
    else:
        checks += [_model_gradient_points_uphill if model.straight_through else _model_gradient_is_right]
    yield from named("model", model, checks)


@lru_cache(maxsize=1)
def _scorer(model: Model) -> Scorer:
    return Scorer(model)


def _images(model: Model, rows: Sequence[int] = ROWS, extra: tuple[int, int] = (0, 9)) -> Tensor:
    side = max(model.min_size, 16)
    return images(rows, (side + extra[0], side + extra[1])).float() / 255


def _model_states_facts(model: Model) -> None:
    json.dumps(model.facts)
    sha256 = model.weights_sha256
    assert re.fullmatch(r"([0-9a-f]{64})?", sha256), f"expected a sha256 or nothing, found {sha256!r}"


def _model_loads_the_same(model: Model) -> None:
    before = torch.get_rng_state()
    first, second = model.load().state_dict(), model.load().state_dict()
    assert torch.equal(torch.get_rng_state(), before), "loading draws from the global random stream"
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first), "loading twice gives other weights"


def _model_scores(model: Model) -> None:
    x = _images(model)
    before = x.clone()
    scores = _scorer(model).score(x)
    assert scores.shape == (len(x),), f"expected shape ({len(x)},), found {tuple(scores.shape)}"
    assert bool(((scores > -50) & (scores < 150)).all()), f"expected scores on about 0–100, found {scores.tolist()}"
    assert not (why := off_scale(scores)), why
    assert len(set(scores.tolist())) > 1, f"every image scores {scores[0]}"
    assert torch.equal(x, before), "the images were changed in place"


def _model_repeats(model: Model) -> None:
    x = _images(model)
    scores = _scorer(model).score(x)
    assert torch.equal(scores, _scorer(model).score(x)), "scoring twice gives other scores"
    assert torch.equal(scores, Scorer(model).score(x)), "loading twice gives other scores"


def _model_draws_nothing(model: Model) -> None:
    """Threads share the global random streams: crops drawn from them would depend on who else is at work."""
    scorer, x = _scorer(model), _images(model, [0])
    before = torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()
    scorer.score(x)
    if model.differentiable:
        scorer.value_and_gradient(x)
    after = torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()
    for whose, old, new in zip(("torch", "numpy", "Python"), before, after, strict=True):
        assert old == new, f"scoring draws from the global random stream of {whose}"


def _model_ignores_neighbours(model: Model) -> None:
    x, scorer = _images(model), _scorer(model)
    if not model.stochastic:
        scores, gradients = scorer.score(x), scorer.value_and_gradient(x)[1] if model.differentiable else None
        for size in (1, 3):
            parts = torch.cat([scorer.score(part) for part in x.split(size)])
            assert torch.equal(scores, parts), f"batches of {size} give other scores"
            if gradients is not None:
                parts = torch.cat([scorer.value_and_gradient(part)[1] for part in x.split(size)])
                assert torch.equal(gradients, parts), f"batches of {size} give other gradients"
        # The bare module may round differently in a batch (another convolution algorithm), but not more than that.
        with torch.inference_mode():
            apart = (scorer.module(x).double() - scores).abs().max()
        assert float(apart) < 1e-2, f"in one batch the module gives scores {float(apart):.3g} points away"


def _model_stays_frozen(model: Model) -> None:
    scorer, x = _scorer(model), _images(model, [0])
    before = state(scorer)
    scorer.score(x)
    if model.differentiable:
        scorer.value_and_gradient(x)
    assert_frozen(scorer, before)


def _model_gradient_is_right(model: Model) -> None:
    x, scorer = _images(model, ROWS[:3]), _scorer(model)
    # equal neighbours tie in a maximum, which has no derivative there
    x = 0.98 * x + 0.02 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    value, gradient = scorer.value_and_gradient(x)
    assert gradient.shape == x.shape, f"expected shape {tuple(x.shape)}, found {tuple(gradient.shape)}"
    assert gradient.isfinite().all(), "NaN or infinite gradient"
    assert bool((gradient.flatten(1).abs().sum(1) > 0).all()), "the gradient is zero everywhere"
    assert torch.allclose(value, scorer.score(x), atol=1e-3), "value_and_gradient and score differ"
    steepness = gradient.abs().double().sum((1, 2, 3))
    step = min(STEP, MOVE / float(steepness.max()))
    for what, u in _directions(gradient):
        expected = (gradient * u).double().sum((1, 2, 3))
        slopes = _slope(scorer, x, u, step)
        tolerance = 0.02 * steepness + 1e-5 / step
        right = ((slopes - expected).abs() < tolerance).double().mean()
        if right <= 0.5:  # a score with kinks closer than the step is asked again where a step can be tiny
            slopes = _slope_in_double(model, x, u)
            right = ((slopes - expected).abs() < 0.02 * steepness).double().mean()
        assert right > 0.5, f"along {what}: slopes {slopes.tolist()}, the gradient says {expected.tolist()}"


def _model_gradient_points_uphill(model: Model) -> None:
    """A gradient that passes over rounding has no finite difference to agree with, but a step along it must pay."""
    x, scorer = _images(model), _scorer(model)
    value, gradient = scorer.value_and_gradient(x)
    assert gradient.isfinite().all(), "NaN or infinite gradient"
    assert torch.allclose(value, scorer.score(x), atol=1e-3), "value_and_gradient and score differ"
    step = gradient.sign() * 2 / 255
    gain = scorer.score((x + step).clamp(0, 1)) - scorer.score((x - step).clamp(0, 1))
    assert bool((gain > 0).double().mean() > 0.5), f"two grey levels along the gradient's sign: gains {gain.tolist()}"


def _directions(gradient: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "the sign of the gradient", gradient.sign()
    for channel, colour in enumerate(("red", "green", "blue")):
        u = torch.zeros_like(gradient)
        u[:, channel] = 1
        yield colour, u
    u = torch.zeros_like(gradient)
    u[..., ::2] = gradient[..., ::2].sign()
    yield "the sign of every other column", u


def _slope(scorer: Scorer, x: Tensor, u: Tensor, step: float) -> Tensor:
    """Central difference in single precision.

    The step is such that the two scores differ by some 0.01 to 0.1 points along the sign of the gradient, well above
    their rounding (1e-5 points, which the tolerance grants), and that few rectifiers switch in between. One may
    switch anyway, so that most images count, not all.
    """
    return (scorer.score(x + step * u) - scorer.score(x - step * u)) / (2 * step)


@torch.inference_mode()
def _slope_in_double(model: Model, x: Tensor, u: Tensor, step: float = 1e-7) -> Tensor:
    """Central difference of single images in double precision."""
    module, x = model.load().eval().double(), x.double()
    pairs = [
        (module(one + step * way), module(one - step * way)) for one, way in zip(x.split(1), u.split(1), strict=True)
    ]
    return torch.cat([above - below for above, below in pairs]) / (2 * step)


def _model_refuses_gradients(model: Model) -> None:
    try:
        _scorer(model).value_and_gradient(_images(model))
    except AttackError:
        return
    raise AssertionError("declares differentiable = False, but gave a gradient")


def _model_takes_any_size(model: Model) -> None:
    for extra in ((0, 0), (1, 14), (17, 3)):
        x = _images(model, [0], extra)
        assert bool(_scorer(model).score(x).isfinite().all()), f"no finite score for {tuple(x.shape)}"


def _model_refuses_small_images(model: Model) -> None:
    small = images([0], (model.min_size - 1, model.min_size + 5)).float() / 255
    try:
        _scorer(model).score(small)
    except ImageError:
        return
    raise AssertionError(f"expected an ImageError for an image under {model.min_size} pixels")
