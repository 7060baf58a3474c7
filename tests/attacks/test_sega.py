"""SEGA's dials against slow references and degenerate cases, and what an ablation of them costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from attackruns import BOTH, CURVED, ENSEMBLE, Run
from torch import Tensor, nn
from toyruns import paint

from iqarena.api import AttackError, ImageError, Model, SpecError
from iqarena.api.streams import Streams
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.registry.tables import build_attack, build_model
from iqarena.report.pairs import pair_table
from iqarena.runner.driver import Options, run_plan
from iqarena.runner.manifest import build_manifest, finish
from iqarena.store.folder import Store
from iqarena.suite.file import Suite
from iqarena.suite.plan import resolve
from iqarena.suite.sources import parse_source
from iqarena.testing import Curved, CurvedNet, Linear
from iqarena_attacks._images import embedded, ranges
from iqarena_attacks._smoothing import Smoothing
from iqarena_attacks.bound import best_sigma, estimate_gap, estimate_lipschitz

BARE = "gradient_filter=none, mask=none"


# ---- degenerate cases


@pytest.mark.parametrize("models", [CURVED, ENSEMBLE], ids=["one", "ensemble"])
@pytest.mark.parametrize(
    ("sega", "same"),
    [
        ("samples=1, sigma=0, steps=10, decay=1", "mi_fgsm"),
        ("samples=1, sigma=0, steps=4, alpha=3/255, decay=0.5", "mi_fgsm(steps=4, alpha=3/255, decay=0.5)"),
        ("samples=5, sigma=0, steps=10", "i_fgsm"),
        ("samples=6", "smoothgrad_fgsm(samples=6)"),
        ("samples=1, sigma=0, alpha=4/255", "fgsm(eps=4/255)"),
        (
            "samples=4, steps=5, sigma=12/255, weights=l2, decay=1",
            "sega_plus(mask=none)",
        ),
    ],
)
def test_special_values_are_other_attacks(sega: str, same: str, models: Sequence[Model]) -> None:
    a, b = Run(f"sega({sega}, {BARE})", models), Run(same, models)
    assert torch.equal(a.raw, b.raw)
    assert (a.source.forwards, a.source.backwards) == (b.source.forwards, b.source.backwards)
    assert not torch.equal(a.raw, a.x)


def test_each_dial_turns_something() -> None:
    plain = Run(f"sega(samples=4, {BARE})", ENSEMBLE).raw
    dials = [
        "antithetic=true",
        "shared_noise=false",
        "weights=l2",
        "weights=range",
        "sigma=auto",
        "steps=2",
        "samples=5",
    ]
    raws = [Run(f"sega({'' if 'samples' in dial else 'samples=4, '}{dial}, {BARE})", ENSEMBLE).raw for dial in dials]
    for i, raw in enumerate([plain, *raws]):
        assert not any(torch.equal(raw, other) for other in raws[i:]), dials[i - 1]
    assert torch.equal(Run(f"sega(samples=4, decay=1, {BARE})", ENSEMBLE).raw, plain), "one step has no memory"


def test_a_mask_holds_in_every_step() -> None:
    run = Run("sega(samples=2, steps=3, decay=1)")
    moved = (run.raw != run.x).any(1, keepdim=True)
    allowed = build_attack("sega").mask(torch.ones_like(run.x), run.x, Streams(["a"], "")) > 0  # pyright: ignore[reportAttributeAccessIssue]
    assert not (moved & ~allowed[:, :1]).any()
    assert (moved & allowed[:, :1]).double().mean() > 0.1


# ---- noise


def _noisy_gradient(model: Model, x: Tensor, sigma: float, purposes: Sequence[tuple[str, int]]) -> Tensor:
    """Image by image, sample by sample, in double precision; a purpose and a sign for each sample."""
    net = model.load().double()
    total = torch.zeros_like(x, dtype=torch.float64)
    for i in range(len(x)):
        for purpose, sign in purposes:
            u = sign * Streams([f"picture {i}"], purpose).normal(x[i : i + 1])
            leaf = (x[i : i + 1] + sigma * u).double().requires_grad_(True)
            total[i] += torch.autograd.grad(net(leaf).sum(), leaf)[0][0] / len(purposes)
    return total


def _assert_signs(raw: Tensor, x: Tensor, gradient: Tensor, direction: Tensor = BOTH) -> None:
    """Every pixel went where this gradient says, but for those where it is nearly zero."""
    clear = gradient.abs() > 1e-4 * gradient.abs().amax((1, 2, 3), keepdim=True)
    assert clear.double().mean() > 0.95
    expected = (direction.view(-1, 1, 1, 1) * gradient.sign())[clear]
    assert torch.equal((raw - x).double()[clear].sign(), expected)


def test_antithetic_noise_comes_in_pairs() -> None:
    run = Run(f"sega(samples=5, antithetic=true, sigma=0.3, {BARE})")
    purposes = [("smoothing 0", 1), ("smoothing 0", -1), ("smoothing 1", 1), ("smoothing 1", -1), ("smoothing 2", 1)]
    _assert_signs(run.raw, run.x, _noisy_gradient(Curved(), run.x, 0.3, purposes))
    assert run.source.backwards == 5


def test_noise_is_shared_by_the_members_unless_it_is_not() -> None:
    models = (Curved(), Curved(seed=1))
    for shared in (True, False):
        run = Run(f"sega(samples=2, sigma=0.3, shared_noise={str(shared).lower()}, {BARE})", models)
        gradient = torch.zeros_like(run.x, dtype=torch.float64)
        for model in models:
            whose = "" if shared else f" {model!r}"
            gradient += _noisy_gradient(model, run.x, 0.3, [(f"smoothing {i}{whose}", 1) for i in range(2)])
        _assert_signs(run.raw, run.x, gradient)


def test_every_step_has_its_own_noise_and_antithetic_pairs_cancel_the_slope_of_a_quadratic() -> None:
    scorer, x = Scorer(Curved()), Run("fgsm").x
    view = Source([scorer], x, Streams(list("abcd"), "noise"))
    first, second = (view.gradient(x, Smoothing(0.1, 2, step=step)) for step in (0, 1))
    assert not torch.equal(first, second)
    bent = Source([Scorer(Square())], x, Streams(list("abcd"), "noise"))
    exact = bent.gradient(x)
    assert torch.allclose(bent.gradient(x, Smoothing(0.1, 4, True)), exact, atol=1e-6)
    assert not torch.allclose(bent.gradient(x, Smoothing(0.1, 4)), exact, atol=1e-3)


class _Squared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x**2).sum((1, 2, 3)) / 100


@dataclass(frozen=True, kw_only=True, repr=False)
class Square(Model):
    name = "square_of_pixels"

    def load(self) -> nn.Module:
        return _Squared()


# ---- weights


def _unlike() -> tuple[Model, ...]:
    """Two members that mostly disagree, the first twenty times as steep."""
    return (Steep(), Curved(seed=1))


class _Steep(CurvedNet):
    def forward(self, x: Tensor) -> Tensor:
        return 20 * super().forward(x)


@dataclass(frozen=True, kw_only=True, repr=False)
class Steep(Model):
    name = "steep"

    def load(self) -> nn.Module:
        return _Steep(0)


def test_equal_weights_follow_the_steep_member_and_the_others_do_not() -> None:
    models = _unlike()
    x = Run("fgsm").x
    each = torch.stack([Scorer(model).value_and_gradient(x)[1].double() for model in models])
    norms = each.flatten(2).norm(dim=2).view(2, -1, 1, 1, 1)
    scores = torch.stack([Scorer(model).score(embedded().float() / 255) for model in models])
    ranges = (scores.amax(1) - scores.amin(1)).view(2, 1, 1, 1, 1)
    for weights, expected in (("equal", each.sum(0)), ("l2", (each / norms).sum(0)), ("range", (each / ranges).sum(0))):
        run = Run(f"sega(sigma=0, weights={weights}, {BARE})", models)
        _assert_signs(run.raw, run.x, expected)
    assert ((each.sum(0).sign() == each[0].sign()).double().mean()) > 0.9
    assert (((each / norms).sum(0).sign() == each[0].sign()).double().mean()) < 0.85


def test_ranges_are_worked_out_once_a_run_and_not_counted() -> None:
    scorers = [Scorer(Linear()), Scorer(Curved())]
    x = Run("fgsm").x
    for _ in range(3):
        view = Source(scorers, x, Streams(list("abcd"), "range"))
        actual = ranges(view)
        assert view.forwards == 0
    assert [s.evaluated["forward"] for s in scorers] == [52, 52]
    scores = scorers[0].score(embedded().float() / 255)
    assert float(actual[0]) == pytest.approx(float(scores.max() - scores.min()))


# ---- sigma=auto


class _Waves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 50 + torch.sin(300 * x).sum((1, 2, 3)) / 30


@dataclass(frozen=True, kw_only=True, repr=False)
class Wavy(Model):
    """Strongly curved, so that the best σ is inside the box."""

    name = "wavy"

    def load(self) -> nn.Module:
        return _Waves()


def test_auto_is_the_bounds_best_sigma_of_each_image() -> None:
    models = (Wavy(), Curved(seed=1), Linear())
    run = Run(f"sega(samples=2, sigma=auto, {BARE})", models)
    scorers = [Scorer(model) for model in models]
    values, gradients = zip(*(s.value_and_gradient(run.x) for s in scorers), strict=True)
    first = torch.stack(gradients).mean(0)
    move = first.sign() / 255
    second = torch.stack([s.value_and_gradient(run.x + move)[1] for s in scorers]).mean(0)
    norm = move.flatten(1).norm(dim=1).double()
    sigma = best_sigma(estimate_lipschitz(first, second, norm), estimate_gap(torch.stack(values)))
    assert len(set(sigma.tolist())) == 4
    gradient = torch.cat(
        [
            sum(_noisy_gradient_of(model, run.x, i, float(sigma[i])) for model in models)  # pyright: ignore[reportArgumentType]
            for i in range(4)
        ]
    )
    _assert_signs(run.raw, run.x, gradient)
    assert run.source.backwards == 3 * 4


def _noisy_gradient_of(model: Model, x: Tensor, i: int, sigma: float) -> Tensor:
    return _noisy_gradient(model, x, sigma, [("smoothing 0", 1), ("smoothing 1", 1)])[i : i + 1]


def test_auto_without_curvature_is_the_width_of_the_box() -> None:
    assert torch.equal(
        Run(f"sega(samples=3, sigma=auto, {BARE})", (Linear(), Linear(seed=1))).raw,
        Run(f"sega(samples=3, sigma=1, {BARE})", (Linear(), Linear(seed=1))).raw,
    )


def test_auto_needs_an_ensemble() -> None:
    with pytest.raises(AttackError, match="at least two scorers, found one"):
        Run("sega(sigma=auto)")
    with pytest.raises(SpecError) as caught:
        resolve(Suite("s", "pocket", ["cnn", "vit", "hyper"], ["fgsm", "sega(sigma=auto)"]))
    assert "sega(sigma=auto) needs a source of at least 2 scorers, found cnn" in str(caught.value)
    resolve(Suite("s", "pocket", ["cnn", "vit", "hyper"], ["sega(sigma=auto)"], sources=["leave_one_out"]))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("sega(samples=0)", "sega: expected samples ≥ 1, found 0"),
        ("sega(sigma=-1/255)", "sega: expected sigma ≥ 0 or auto, found -1/255"),
        ("sega(sigma=big)", "sega(sigma=…): expected a number (8/255) or auto, found big"),
        ("sega(weights=most)", "unknown value 'most'; valid: 'equal', 'l2', 'range'"),
        ("sega(decay=-1)", "sega: expected decay ≥ 0, found -1"),
        ("sega(steps=0)", "sega: expected steps ≥ 1, found 0"),
        ("sega(antithetic=1)", "expected true or false, found 1"),
    ],
)
def test_a_mistake_is_one_line(spec: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        build_attack(spec)
    assert expected in str(caught.value)


# ---- cost


def _ablation() -> list[str]:
    """Twelve variants that differ in filters, mask, budget or weights, and not in their raw gradients."""
    filters = ["none", "fourier_topk(keep=0.25)", "fourier_lowpass", "random"]
    return [
        *(f"sega(samples=4, gradient_filter={g}, mask={m})" for g in filters for m in ("none", "jnd")),
        "sega(samples=4, eps=4/255)",
        "sega(samples=4, mask=jnd_soft|edges)",
        "sega(samples=4, weights=l2)",
        "smoothgrad_fgsm(samples=4)",
    ]


def test_twelve_variants_cost_one_gradient_pass(tmp_path: Path) -> None:
    """A real run: 2 images, sources a, b and a+b with c as the target; each member is differentiated 4 times."""
    for i in range(2):
        paint(tmp_path / f"{i}.png", i)
    specs = [f"toy_curved(seed={i})" for i in range(3)]
    sources = [specs[0], specs[1], f"ensemble({specs[0]}, {specs[1]})"]
    suite = Suite("s", {"path": str(tmp_path)}, specs[2:], _ablation(), sources)
    assert len(suite.attacks) == 12
    plan, store = resolve(suite), Store(tmp_path / "run")
    scorers = run_plan(plan, store, Options(workers=1))
    evaluated = {repr(s.model): s.evaluated["gradient"] for s in scorers}
    assert evaluated == {specs[0]: 2 * 4, specs[1]: 2 * 4, specs[2]: 0}
    assert plan.gradients() == {specs[0]: 4, specs[1]: 4}, "and the plan foretells it, per image"
    rows = store.rows()
    assert len(rows) == 2 * 12 * 3
    assert (rows["status"] == "ok").all()
    assert set(rows["backwards"] / (1 + rows["source"].str.startswith("ensemble"))) == {4}, "counted as if alone"


def test_noisy_copies_fill_the_micro_batches_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, x = Scorer(Curved()), Run("fgsm").x
    sizes: list[int] = []
    real = scorer.value_and_gradient
    monkeypatch.setattr(scorer, "value_and_gradient", lambda z: (sizes.append(len(z)), real(z))[1])
    monkeypatch.setattr(scorer, "chunk", 16)  # as on a GPU
    full = Source([scorer], x, Streams(list("abcd"), "fold")).gradient(x, Smoothing(0.1, 7))
    assert sizes == [16, 12]
    sizes.clear()
    each = [(one, Source([scorer], one, Streams([name], "fold"))) for one, name in zip(x.split(1), "abcd")]
    apart = [source.gradient(one, Smoothing(0.1, 7)) for one, source in each]
    assert sizes == [7] * 4
    assert torch.equal(torch.cat(apart), full)
    monkeypatch.setattr(scorer, "chunk", 1)
    assert torch.allclose(
        Source([scorer], x, Streams(list("abcd"), "fold")).gradient(x, Smoothing(0.1, 7)), full, atol=1e-6
    )
    assert scorer.evaluated["gradient"] == 3 * 7 * 4


# ---- bad input


@pytest.mark.parametrize("filters", ["mask=jnd(threshold=1000)", "gradient_filter=edges"])
def test_a_filter_that_removes_everything_is_flagged_and_finite(filters: str, tmp_path: Path) -> None:
    spec = f"sega(samples=2, {filters})"
    for i in range(3):
        image = np.full((32, 40, 3), 60 + 50 * i, np.uint8)
        image[: 5 + i] = 70 + 50 * i  # too faint for an edge
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
    targets = ["toy_curved", "toy_curved(seed=1)"]
    plan = resolve(Suite("s", {"path": str(tmp_path)}, targets, ["noise", "fgsm", spec], sources=["each"]))
    store = Store(tmp_path / "run")
    run_plan(plan, store, Options(workers=1))
    rows = store.rows()
    removed = rows[rows["attack"] == repr(build_attack(spec))]
    assert (rows["status"] == "ok").all()
    assert (removed["changed"] == 0).all()
    assert np.isfinite(removed[["score_adv", "score_control", "score_float", "own_gain", "ssim", "linf"]]).all(
        axis=None
    )
    manifest = finish(build_manifest(plan, Options(), "a test"), rows)
    table = pair_table(rows, manifest).table
    pairs = table[table["attack"] == repr(build_attack(spec))]
    assert set(pairs["flags"]) == {"did_not_run;unchanged"}
    assert (pairs["aligned_sd_mean"] == 0).all()
    assert set(table.loc[table["attack"] == repr(build_attack("fgsm")), "flags"]) == {""}


def test_sources_that_cannot_be_used_are_named() -> None:
    x = torch.rand(1, 3, 12, 20)
    with pytest.raises(ImageError, match=r"toy_curved.* needs images of at least 16 pixels a side, found 20×12"):
        Source([Scorer(Linear()), Scorer(Curved())], x, Streams(["a"], "")).gradient(x, Smoothing(0.1, 2))
    blind = Source([Scorer(Linear()), Scorer(build_model("toy_step"))], x, Streams(["a"], ""))
    with pytest.raises(AttackError, match="toy_step has no gradient; use it as a target only"):
        blind.gradient(x, Smoothing(0.1, 2))
    for one in ("ensemble(toy_curved)", "ensemble()", "ensemble(toy_curved, toy_curved)"):
        with pytest.raises(SpecError, match=r"at least two models|names a model twice"):
            parse_source(one)
