"""Attacks against known answers: the optimum of a linear scorer, a second implementation, and degenerate cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from attackruns import (
    BOTH,
    CURVED,
    ENSEMBLE,
    SHORT,
    Bent,
    Run,
    assert_equal_pixels,
    assert_same_up_to_rounding,
    best_gains,
)
from torch import Tensor, nn

from iqarena.api import Model, SpecError
from iqarena.api.streams import Streams
from iqarena.engine.source import Source
from iqarena.registry.tables import build_attack, build_model, names
from iqarena.testing import CurvedNet, Linear, images
from iqarena_attacks._frame import State

# These do not go to the corner of the budget by design; their own oracles are in test_rivals.py.
ELSEWHERE = {"di_fgsm", "korhonen", "perceptual", "ti_fgsm", "torchattacks.DIFGSM", "torchattacks.TIFGSM"}


def _gradient_attacks() -> list[str]:
    actual = [name for name in names("attack") if build_attack(name).access == "gradient"]
    variants = ["sega(samples=1, sigma=0, gradient_filter=none, mask=none)", "pgd(random_start=true)"]
    variants += [f"sega(gradient_filter=none, mask=none, {dials})" for dials in DIALS]
    variants += ["di_fgsm(p=0)", "ti_fgsm(size=1)", "perceptual(weight=0)", "torchattacks.DIFGSM(diversity_prob=0)"]
    bare = {"sega": "sega(gradient_filter=none, mask=none)", "sega_plus": "sega_plus(mask=none)"}
    return [(SHORT | bare).get(name, name) for name in actual] + variants


DIALS = ["samples=3, steps=4", "steps=4, sigma=0, decay=1", "weights=l2", "weights=range", "samples=5, antithetic=true"]


# ---- the optimum of a linear scorer


@pytest.mark.parametrize("spec", [spec for spec in _gradient_attacks() if spec.partition("(steps")[0] not in ELSEWHERE])
def test_a_gradient_attack_reaches_the_optimum_of_a_linear_scorer(spec: str) -> None:
    run = Run(spec, [Linear()])
    best = best_gains(run)
    for x in (run.crafted.unrounded, run.crafted.adversarial.float() / 255):
        share = run.gains(x) / best
        assert share.min() >= 0.99, share.tolist()
        assert share.max() <= 1.0001, share.tolist()  # single-precision scores


def test_random_signs_gain_nothing_on_a_linear_scorer() -> None:
    run = Run("noise", [Linear()], torch.ones(24))
    share = run.gains(run.crafted.adversarial.float() / 255) / best_gains(run)
    # Of 3840 independent signs the mean has a deviation of 0.016; two means of 24 images below 4 deviations.
    assert share.abs().max() < 0.08
    assert share.mean().abs() < 0.015


def test_the_untouched_image_stays_untouched() -> None:
    run = Run("identity")
    assert torch.equal(run.crafted.adversarial, run.pixels)
    assert torch.equal(run.crafted.control, run.pixels)


# ---- a second implementation

# Ours takes the sign of a gradient, theirs the sign of a positive multiple of it: equal on every scorer.
SIGNS = [
    ("fgsm", "torchattacks.FGSM"),
    ("pgd", "torchattacks.PGD(alpha=2/255)"),
    ("pgd(eps=4/255, steps=5, alpha=none)", "torchattacks.PGD(eps=4/255, steps=5)"),
]
# In a momentum the multiple cancels up to the last bit.
MOMENTA = [
    ("mi_fgsm", "torchattacks.MIFGSM"),
    ("mi_fgsm(steps=4, alpha=3/255)", "torchattacks.MIFGSM(steps=4, alpha=3/255)"),
    ("mi_fgsm", "torchattacks.DIFGSM(diversity_prob=0, decay=1)"),
    ("ni_fgsm", "torchattacks.NIFGSM"),
    ("ni_fgsm(steps=4, alpha=3/255, decay=0.5)", "torchattacks.NIFGSM(steps=4, alpha=3/255, decay=0.5)"),
    ("si_fgsm(nesterov=true, scales=1)", "torchattacks.SINIFGSM(m=1)"),
    ("ti_fgsm", "torchattacks.TIFGSM(diversity_prob=0, decay=1)"),
    ("ti_fgsm(size=7, reach=2, decay=0)", "torchattacks.TIFGSM(diversity_prob=0, len_kernel=7, nsig=2)"),
]


@pytest.mark.parametrize("direction", [torch.ones(4), -torch.ones(4), BOTH], ids=["raise", "lower", "both"])
@pytest.mark.parametrize(("ours", "theirs"), SIGNS + MOMENTA)
def test_ours_equals_torchattacks(ours: str, theirs: str, direction: Tensor) -> None:
    assert_equal_pixels(ours, theirs, [Bent()], direction)


@pytest.mark.parametrize("models", [CURVED, ENSEMBLE], ids=["one", "ensemble"])
@pytest.mark.parametrize(("ours", "theirs"), SIGNS + MOMENTA)
def test_ours_equals_torchattacks_on_smooth_scorers(ours: str, theirs: str, models: Sequence[Model]) -> None:
    if (ours, theirs) in SIGNS:
        assert_equal_pixels(ours, theirs, models)
    else:  # another decay by a tenth changes 0.2 % of the pixels
        assert_same_up_to_rounding(ours, theirs, models, share=0.001)


@pytest.mark.parametrize(("ours", "theirs"), SIGNS + MOMENTA)
def test_ours_equals_torchattacks_on_a_trained_scorer(ours: str, theirs: str) -> None:
    """After three steps, on a scorer that each attack moves far. Noise of the last bit in points and gradients changed
    no pixel by then, on one processor; after ten steps of ni_fgsm 7 % of them, because rectifiers switch."""
    attacks = build_attack(ours), build_attack(theirs)
    a, b = (repr(replace(attack, steps=3) if hasattr(attack, "steps") else attack) for attack in attacks)
    if (ours, theirs) in SIGNS:
        assert_equal_pixels(a, b, [build_model("hyper")], size=(72, 80))
    else:
        assert_same_up_to_rounding(a, b, [build_model("hyper")], share=0.01, size=(72, 80))


# ---- degenerate cases


@pytest.mark.parametrize("models", [CURVED, ENSEMBLE], ids=["one", "ensemble"])
def test_sega_without_smoothing_and_filters_is_fgsm(models: Sequence[Model]) -> None:
    plain = Run("sega(samples=1, sigma=0, gradient_filter=none, mask=none)", models)
    assert torch.equal(plain.raw, Run("fgsm", models).raw)
    assert torch.equal(Run("sega(samples=7, sigma=0, gradient_filter=none, mask=none)", models).raw, plain.raw)
    smoothed = Run("sega(gradient_filter=none, mask=none)", models)
    assert not torch.equal(smoothed.raw, plain.raw)


def test_a_chain_is_its_filters_in_turn_and_a_mask_only_takes_away() -> None:
    full = Run("sega(mask=none)").raw
    run = Run("sega(mask=jnd|none)")
    changed = run.raw != run.x
    assert changed.any()
    assert torch.equal(run.raw[changed], full[changed])
    assert not changed.all(), "the flat parts of the images are below the threshold"
    assert torch.equal(Run("sega").raw, run.raw)


@pytest.mark.parametrize("models", [CURVED, ENSEMBLE], ids=["one", "ensemble"])
def test_iterative_attacks_with_one_full_step_are_fgsm(models: Sequence[Model]) -> None:
    fgsm = Run("fgsm", models)
    for spec in ("pgd(steps=1, alpha=8/255)", "pgd(steps=1, alpha=none)", "mi_fgsm(steps=1)"):
        run = Run(spec, models)
        assert torch.equal(run.crafted.adversarial, fgsm.crafted.adversarial)
        assert torch.allclose(run.raw, fgsm.raw.clamp(0, 1), rtol=0, atol=1e-7)  # x + (x + δ - x) in single precision


@pytest.mark.parametrize("alpha", ["none", "2/255"])
def test_momentum_without_memory_is_pgd(alpha: str) -> None:
    pgd = Run(f"pgd(steps=4, alpha={alpha})").raw
    assert torch.equal(Run(f"mi_fgsm(steps=4, alpha={alpha}, decay=0)").raw, pgd)
    assert not torch.equal(Run(f"mi_fgsm(steps=4, alpha={alpha}, decay=1)").raw, pgd)


def test_a_random_start_is_elsewhere_and_inside_the_budget() -> None:
    attack = build_attack("pgd(random_start=true)")
    x = images(range(4)).float() / 255
    s = State(x, x, Source([], x, Streams([], "")), Streams(list("abcd"), "start"), x)
    attack.start(s)  # pyright: ignore[reportAttributeAccessIssue]
    start = s.z
    assert 0.9 * attack.eps < (start - x).abs().max() <= attack.eps + 1e-7
    assert start.min() >= 0
    assert start.max() <= 1
    assert abs(float((start - x)[:, :, 2:-2].mean())) < attack.eps / 20


ONE_STEP = ["fgsm", "sega", "sega(mask=random, gradient_filter=none)", "sega(eps=6.5/255)", "sega(mask=fourier_topk)"]
NOISE = ["noise", "noise(mask=jnd)"]
CLIPPING = ["pgd(steps=1, alpha=none)", "mi_fgsm(steps=1)", "torchattacks.FGSM"]


@pytest.mark.parametrize("spec", [*ONE_STEP, *CLIPPING])
def test_swapping_the_direction_swaps_adversarial_and_control(spec: str) -> None:
    """A kernel that clips to the box itself does so before the frame turns its perturbation round, so that pixels
    without room on both sides are left out for those."""
    up, down = (Run(spec, direction=sign * torch.ones(4)) for sign in (1, -1))
    headroom = (up.x >= 8.5 / 255) & (up.x <= 1 - 8.5 / 255)
    where = headroom if spec in CLIPPING else torch.ones_like(headroom)
    assert where.double().mean() > 0.8
    for one, other in ((up.crafted, down.crafted), (down.crafted, up.crafted)):
        apart = (one.adversarial.short() - other.control.short())[where].abs()
        assert apart.max() <= 1
        assert (apart > 0).double().mean() < 1e-3, "levels half-way between two whole ones round either way"
    assert not torch.equal(up.crafted.adversarial, up.crafted.control)


def test_all_noise_is_the_same_noise() -> None:
    """A masked control differs from the plain one by its mask only."""
    plain, masked = (Run(spec) for spec in NOISE)
    kept = masked.raw != masked.x
    assert 0 < kept.double().mean() < 1
    assert torch.equal(masked.raw[kept], plain.raw[kept])


@pytest.mark.parametrize("spec", NOISE)
def test_noise_knows_no_direction(spec: str) -> None:
    up, down = (Run(spec, direction=sign * torch.ones(4)).crafted for sign in (1, -1))
    assert torch.equal(up.adversarial, down.adversarial)
    assert torch.equal(up.control, down.control)
    assert not torch.equal(up.adversarial, up.control)


# ---- memory and costs


@pytest.mark.parametrize("models", [CURVED, ENSEMBLE], ids=["one", "ensemble"])
def test_a_shared_memo_changes_neither_pixels_nor_costs(models: Sequence[Model]) -> None:
    """One memo through all attacks, as in a run, against each attack alone."""
    memo: dict[Any, Any] = {}
    for spec in [*ONE_STEP, *NOISE, "pgd(steps=3)", "mi_fgsm(steps=3)", "sega(samples=3)", "fgsm"]:
        alone, among = Run(spec, models), Run(spec, models, memo=memo)
        assert torch.equal(alone.crafted.adversarial, among.crafted.adversarial)
        assert torch.equal(alone.crafted.unrounded, among.crafted.unrounded)
        assert (alone.source.forwards, alone.source.backwards) == (among.source.forwards, among.source.backwards)
        assert alone.source.backwards == build_attack(spec).cost * len(models)


# ---- traps


class Dead(CurvedNet):
    def forward(self, x: Tensor) -> Tensor:
        return 50 + 0 * super().forward(x)


@dataclass(frozen=True, kw_only=True, repr=False)
class Flat(Model):
    """Differentiable, with a gradient of zero everywhere."""

    name = "flat"

    def load(self) -> nn.Module:
        return Dead(0)


@pytest.mark.parametrize("spec", [*(spec for spec in _gradient_attacks() if "random" not in spec), "sega"])
def test_a_zero_gradient_leaves_the_image_alone(spec: str) -> None:
    run = Run(spec, [Flat()])
    assert torch.equal(run.crafted.adversarial, run.pixels)
    assert run.source.zero_gradient is not None
    assert run.source.zero_gradient.tolist() == [1.0] * 4
    assert bool(run.crafted.finite.all())


def test_momentum_of_a_zero_gradient_is_zero() -> None:
    zero, other = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    accumulate = build_attack("mi_fgsm").accumulate  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.equal(accumulate(torch.cat([zero, other]), torch.cat([zero, zero])), torch.cat([zero, other]))


def test_parameters_are_checked() -> None:
    for spec in (
        "pgd(steps=0)",
        "pgd(alpha=0)",
        "pgd(eps=2)",
        "pgd(eps=-1/255)",
        "mi_fgsm(decay=-1)",
        "sega(samples=0)",
        "sega(sigma=-1/255)",
        "noise(mask=random(keep=0))",
        "sega(gradient_filter=fourier_topk(keep=1.5))",
        "sega(mask=jnd(threshold=-1))",
    ):
        with pytest.raises(SpecError, match=r"expected|unknown"):
            build_attack(spec)
