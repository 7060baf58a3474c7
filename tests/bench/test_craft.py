"""The sealed call: whatever a kernel returns, what is scored is inside the budget, 8-bit, and finite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from iqarena.api import Attack, AttackError
from iqarena.api.streams import Streams
from iqarena.engine.budget import displaced
from iqarena.engine.craft import Crafted, craft
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.testing import Linear, images

PIXELS = images()
X = PIXELS.float() / 255


@dataclass(frozen=True, kw_only=True, repr=False)
class Kernel(Attack):
    name = "kernel"
    access = "none"

    of: Callable[[Tensor], Any] = field(default=torch.clone)

    def perturb(self, x: Tensor, source: Any, streams: Streams) -> Tensor:
        return self.of(x)


def run(of: Callable[[Tensor], Any], eps: float = 8 / 255, x: Tensor = X) -> Crafted:
    streams = Streams([str(i) for i in range(len(x))], "kernel")
    return craft(Kernel(eps=eps, of=of), PIXELS, x, Source([Scorer(Linear())], x, streams), streams)


def levels(pixels: Tensor) -> Tensor:
    return pixels.short() - PIXELS.short()


@pytest.mark.parametrize(("eps", "headroom"), [(8 / 255, 8), (7.5 / 255, 7), (0.999 / 255, 0), (0.0, 0), (1.0, 255)])
def test_a_perturbation_outside_the_budget_is_clipped(eps: float, headroom: int) -> None:
    crafted = run(lambda x: x + 10.0, eps)
    expected = (PIXELS.short() + headroom).clamp(max=255)
    assert torch.equal(crafted.adversarial.short(), expected)
    assert torch.equal(crafted.control.short(), (PIXELS.short() - headroom).clamp(min=0)), (
        "also where the box was in the way"
    )
    assert crafted.unrounded.max() <= 1
    assert (crafted.unrounded - X).abs().max() <= eps + 1e-6
    assert crafted.finite.all()


def test_rounding_goes_to_the_nearest_level_and_keeps_whole_levels() -> None:
    assert levels(run(lambda x: x + 2.4 / 255).adversarial).unique().tolist() == [0, 1, 2]  # 0 and 1: next to white
    middle = (PIXELS > 10) & (PIXELS < 245)
    for shift, expected in ((0.4, 0), (0.6, 1), (2.4, 2), (2.6, 3), (-2.6, -3)):
        crafted = run(lambda x, shift=shift: x + shift / 255)
        assert levels(crafted.adversarial)[middle].unique().tolist() == [expected]
        assert levels(crafted.control)[middle].unique().tolist() == [-expected]
        assert crafted.changed.all()
    crafted = run(lambda x: x + 2.6 / 255, eps=2.6 / 255)
    assert levels(crafted.adversarial)[middle].unique().tolist() == [2], "2.6 would round to 3, outside the budget"


def test_whole_levels_are_not_changed_by_rounding() -> None:
    crafted = run(lambda x: x + 8 / 255)
    assert not crafted.changed.any()
    assert torch.equal(crafted.adversarial.float() / 255, (crafted.unrounded * 255).round() / 255)


def test_rounding_is_reported_by_image() -> None:
    shift = torch.tensor([0.0, 2, 2.3, 8, 0.6]).view(-1, 1, 1, 1) / 255
    assert run(lambda x: x + shift).changed.tolist() == [False, False, True, False, True]


def test_undefined_pixels_leave_their_image_clean_and_are_reported() -> None:
    def of(x: Tensor) -> Tensor:
        out = x + 8 / 255
        out[1, 0, 3, 3] = float("nan")
        out[3, 2, 0, 0] = float("inf")
        return out

    crafted = run(of)
    assert crafted.finite.tolist() == [True, False, True, False, True]
    for i, finite in enumerate(crafted.finite.tolist()):
        assert torch.equal(crafted.adversarial[i], PIXELS[i]) is not finite
        assert torch.equal(crafted.control[i], PIXELS[i]) is not finite
    assert crafted.unrounded.isfinite().all()


def test_the_control_is_the_negative_perturbation() -> None:
    signs = Streams([str(i) for i in range(len(X))], "signs").signs(X)
    one, other = run(lambda x: x + 8 / 255 * signs), run(lambda x: x - 8 / 255 * signs)
    assert torch.equal(one.adversarial, other.control)
    assert torch.equal(one.control, other.adversarial)


def test_noise_and_its_control_are_equally_strong_at_the_edge_of_the_box() -> None:
    """A control made from the 8-bit image would leave black and white alone."""
    dark = torch.zeros(1, 3, 32, 40, dtype=torch.uint8)
    signs = Streams(["dark"], "signs").signs(dark.float())
    streams = Streams(["0"], "kernel")
    source = Source([Scorer(Linear())], dark / 255, streams)
    crafted = craft(Kernel(of=lambda x: x + 8 / 255 * signs), dark, dark / 255, source, streams)
    assert torch.equal(crafted.adversarial, torch.where(signs > 0, 8, 0).to(torch.uint8))
    assert torch.equal(crafted.control, torch.where(signs < 0, 8, 0).to(torch.uint8))


def test_the_displaced_control_keeps_every_amplitude_and_takes_its_sign_from_half_an_image_away() -> None:
    clean = torch.full((1, 3, 4, 6), 100, dtype=torch.uint8)
    shift = torch.zeros(1, 3, 4, 6, dtype=torch.int16)
    shift[..., 0, 0], shift[..., 2, 3], shift[..., 1, 1] = 5, -2, 7  # the first two lie half an image apart
    spare = torch.ones(1, 3, 4, 6)
    moved = displaced(clean, shift, -spare).short() - 100
    assert moved[0, 0, 0, 0] == -5, "the sign of the other"
    assert moved[0, 0, 2, 3] == 2
    assert moved[0, 0, 1, 1] == -7, "half an image away is nothing: the spare sign"
    assert torch.equal(moved.abs(), shift.abs())
    assert (displaced(clean, shift, spare).short() - 100)[0, 0, 1, 1] == 7


def test_the_displaced_control_is_cut_to_the_box_after_it_was_turned() -> None:
    dark = torch.zeros(1, 3, 4, 6, dtype=torch.uint8)
    shift = torch.full((1, 3, 4, 6), -3, dtype=torch.int16)  # the box lets none of it through
    shift[..., :2, :] = 3
    assert displaced(dark, shift, shift).unique().tolist() == [0, 3]
    assert (displaced(dark, shift, shift)[..., :2, :] == 0).all(), "its signs come from below"


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_a_linear_scorer_does_not_see_a_displaced_perturbation_on_average(size: tuple[int, int]) -> None:
    """δ = sign w gains Σ|w|; displaced, Σ w · sign w', whose mean over random w is 0."""
    w = torch.randn(4000, 3, *size, generator=torch.Generator().manual_seed(0))
    clean = torch.full(w.shape, 100, dtype=torch.uint8)
    moved = displaced(clean, w.sign().short(), torch.ones_like(w)).float() - 100
    gain, control = w.abs().flatten(1).sum(1).mean(), (w * moved).flatten(1).sum(1)
    assert abs(control.mean()) < 4 * control.std() / 4000**0.5 < 0.05 * gain


def zeroed(array: Any) -> Any:
    array[:] = 0
    return array


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (lambda x: x[:1], "expected images of shape (5, 3, 32, 40), found (1, 3, 32, 40)"),
        (lambda x: x[..., :8], "found (5, 3, 32, 8)"),
        (lambda x: None, "found NoneType"),
        (lambda x: [x], "found list"),
        (lambda x: (255 * x).byte(), "expected floating images in [0, 1], found torch.uint8"),
        (lambda x: x.add_(0.01), "changed its input in place"),
        (lambda x: x.clamp_(0.2, 0.8) * 0 + 1, "changed its input in place"),
        (lambda x: x.data.add_(0.01).clone(), "changed its input in place"),
        (lambda x: torch.from_numpy(zeroed(x.numpy())).clone(), "changed its input in place"),
    ],
)
def test_a_broken_contract_is_named(of: Callable[[Tensor], Any], expected: str) -> None:
    with pytest.raises(AttackError) as caught:
        run(of, x=X.clone())
    assert str(caught.value).startswith("kernel: ")
    assert expected in str(caught.value)


def test_the_clean_images_survive_an_attack_that_writes_into_them() -> None:
    def failing(x: Tensor) -> Tensor:
        x.zero_()
        raise RuntimeError("after the damage")

    for of, error in ((lambda x: x.zero_(), AttackError), (failing, RuntimeError)):
        x = X.clone()
        with pytest.raises(error):
            run(of, x=x)
        assert torch.equal(x, X), "the next attack is given the same tensor"


@pytest.mark.parametrize("asks", [False, True], ids=["and goes", "and asks"])
def test_an_attack_that_writes_into_a_scorer_is_named_and_the_next_one_meets_the_weights_of_the_file(
    asks: bool,
) -> None:
    scorer = Scorer(Linear())
    before = scorer.score(X)

    @dataclass(frozen=True, kw_only=True, repr=False)
    class Writing(Kernel):
        access = "gradient"

        def perturb(self, x: Tensor, source: Any, streams: Streams) -> Tensor:
            source._scorers[0].module.pattern.data.mul_(3)
            return x + source.gradient(x) if asks else x.clone()

    streams = Streams([str(i) for i in range(len(X))], "kernel")
    with pytest.raises(AttackError, match=r"kernel: changed the weights of .*toy_linear\(seed=0\)"):
        craft(Writing(), PIXELS, X, Source([scorer], X, streams), streams)
    assert torch.equal(scorer.score(X), before)


def test_graphs_and_types_end_here() -> None:
    plain = run(lambda x: x + 3 / 255)
    for of in (lambda x: (x + 3 / 255).double(), lambda x: (x + 3 / 255).requires_grad_()):
        crafted = run(of)
        assert torch.equal(crafted.adversarial, plain.adversarial)
        assert crafted.adversarial.dtype == torch.uint8
        assert crafted.unrounded.dtype == torch.float32
        assert not crafted.unrounded.requires_grad


def test_the_kernel_is_given_its_sign_by_image() -> None:
    seen: list[Tensor] = []

    @dataclass(frozen=True, kw_only=True, repr=False)
    class Watching(Kernel):
        def perturb(self, x: Tensor, source: Any, streams: Streams) -> Tensor:
            seen.append(source.sign)
            return x + self.eps * source.sign

    streams = Streams([str(i) for i in range(len(X))], "kernel")
    direction = torch.tensor([1, -1, 1, -1, 1], dtype=torch.float64)  # as numpy gives it
    crafted = craft(Watching(), PIXELS, X, Source([], X, streams, sign=direction), streams)
    assert seen[0].shape == (5, 1, 1, 1)
    assert seen[0].dtype == X.dtype
    assert levels(crafted.adversarial)[1].max() <= 0 <= levels(crafted.adversarial)[0].min()
