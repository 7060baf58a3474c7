"""The losses of gradient_norm and adversarial, against their formulas."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from iqarena.metrics.distortion import distortion
from iqarena.testing.toys import CurvedNet, LinearNet
from iqarena_models.defenses.adversarial import Adversarial, ssim
from iqarena_models.defenses.gradient_norm import DEVIATION, GradientNorm, gradient_l1, score_and_steepness


class Quadratic(nn.Module):
    """``f(x) = Σ a x²``: ``(f(x + h s) − f(x)) / h = Σ 2|a x| + h Σ a`` where no gradient is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        return (self.a * x.square()).sum((1, 2, 3))


def test_the_quotient_is_exact_for_a_linear_scorer() -> None:
    net, x = LinearNet(0), torch.rand(3, 3, 16, 24)
    exact = net.weights(x).abs().sum().expand(3)
    torch.testing.assert_close(gradient_l1(net, x), exact)
    for step in (1e-2, 0.5):
        torch.testing.assert_close(score_and_steepness(net, x, step)[1], exact, rtol=1e-3, atol=1e-3)


def test_the_quotient_of_a_quadratic_scorer_has_its_closed_form() -> None:
    net, x = Quadratic().double(), torch.rand(4, 3, 8, 8, dtype=torch.double) + 0.1
    exact = (2 * net.a * x).abs().sum((1, 2, 3))
    torch.testing.assert_close(gradient_l1(net, x), exact)
    for h in (1e-3, 1e-1):
        torch.testing.assert_close(score_and_steepness(net, x, h)[1], exact + h * net.a.sum())


def test_the_quotient_converges_to_the_exact_norm_at_first_order() -> None:
    net, x = CurvedNet(0).double(), torch.rand(8, 3, 24, 24, dtype=torch.double)
    exact = gradient_l1(net, x)
    errors = [float((score_and_steepness(net, x, h)[1] - exact).abs().mean().detach()) for h in (1e-2, 1e-3, 1e-4)]
    assert errors[0] < 0.1 * float(exact.min())
    for larger, smaller in itertools.pairwise(errors):
        assert smaller == pytest.approx(larger / 10, rel=0.3)


def test_the_loss_is_the_papers_in_normalised_images() -> None:
    """The same, worked out by the formula on the scorer of images divided by the deviation."""
    net, x, mos = CurvedNet(0).double(), torch.rand(5, 3, 20, 20, dtype=torch.double), torch.rand(5).double() * 100
    defense = GradientNorm(weight=0.7, h=0.03)
    leaf = (x / DEVIATION).requires_grad_(True)

    def normalised(z: Tensor) -> Tensor:
        return net(z * DEVIATION)

    s = torch.autograd.grad(normalised(leaf).sum(), leaf)[0].sign()
    z = leaf.detach()
    quotient = (normalised(z + 0.03 * s) - normalised(z)) / 0.03
    expected = (net(x) - mos).abs().mean() + 0.7 * 0.5 * quotient.square().mean()
    torch.testing.assert_close(defense.loss(net, x, mos), expected)
    ours, theirs = (torch.autograd.grad(loss, net.first)[0] for loss in (defense.loss(net, x, mos), expected))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(GradientNorm(weight=0).loss(net, x, mos), (net(x) - mos).abs().mean())


def test_adversarial_training_moves_away_from_the_label_and_lowers_it() -> None:
    net, x = LinearNet(0), torch.full((2, 3, 24, 24), 0.5)
    mos = torch.tensor([10.0, 90.0])  # the score is 50: one image is attacked upwards, one downwards
    w, eps = net.weights(x), 4 / 255
    attacked = x + eps * torch.tensor([1.0, -1.0]).view(2, 1, 1, 1) * w.sign()
    lowered = mos - (1 - ssim(x, attacked)) * 100
    expected = ((net(x) - mos).abs().mean() + (net(attacked) - lowered.clamp(0, 100)).abs().mean()) / 2
    torch.testing.assert_close(Adversarial(eps=eps).loss(net, x, mos), expected)
    assert bool((lowered < mos).all())
    torch.testing.assert_close(Adversarial(eps=0).loss(net, x, mos), (net(x) - mos).abs().mean())


class Recorded(nn.Module):
    """A scorer that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.images = CurvedNet(0), list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        self.images.append(x.detach())
        return self.net(x)


def test_the_attack_in_training_moves_every_free_pixel_by_4_of_255() -> None:
    recorded, x = Recorded(), torch.rand(3, 3, 20, 24)
    mos = recorded.net(x).detach() + torch.tensor([-5.0, 5.0, 5.0])
    Adversarial().loss(recorded, x, mos)
    attacked, eps = recorded.images[-1], 4 / 255
    leaf = x.clone().requires_grad_()
    g = torch.autograd.grad((recorded.net(leaf) - mos).abs().sum(), leaf)[0]
    assert torch.equal(attacked, (x + eps * g.sign()).clamp(0, 1))
    free = ((x > eps) & (x < 1 - eps) & (g != 0)).double()
    assert float(((attacked - x).abs().double() * free).sum() / free.sum()) == pytest.approx(eps, abs=1e-6)
    assert float(free.mean()) > 0.9
    assert sum(torch.equal(image, x) for image in recorded.images) == 1, "one evaluation, for score and gradient"


@pytest.mark.parametrize(("mos", "similarity", "label"), [(80, 0.9, 70), (80, 1, 80), (6, 0.9, 0), (100, 0, 0)])
def test_the_label_falls_by_the_similarity_that_is_lost(
    mos: float, similarity: float, label: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scorer that says 50 of every image: half of the loss is |50 − mos|, the other half |50 − label|."""
    net = LinearNet(0)
    nn.init.zeros_(net.pattern)
    monkeypatch.setattr("iqarena_models.defenses.adversarial.ssim", lambda x, y: torch.full((len(x),), similarity))
    loss = Adversarial().loss(net, torch.rand(2, 3, 16, 16), torch.full((2,), float(mos)))
    assert float(loss.detach()) == pytest.approx((abs(50 - mos) + abs(50 - label)) / 2, abs=1e-4)


def test_ssim_is_that_of_the_metrics() -> None:
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 256, (40, 56, 1)).repeat(3, 2).astype(np.uint8)
    other = np.clip(clean + rng.normal(0, 20, (*clean.shape[:2], 1)), 0, 255).astype(np.uint8)
    x, y = (torch.from_numpy(p.transpose(2, 0, 1).copy())[None].float() / 255 for p in (clean, other))
    assert float(ssim(x, y)) == pytest.approx(distortion(clean, other)["ssim"], abs=1e-4)
    assert float(ssim(x, x)) == pytest.approx(1)
