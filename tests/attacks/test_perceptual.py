"""The perceptual attacks: Korhonen and You's activity, Zhang et al.'s penalty on similarity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attackruns import BOTH, Run
from scipy import ndimage

from iqarena.api import SpecError
from iqarena.api.streams import Streams
from iqarena.registry.tables import build_attack
from iqarena.testing import Linear, LinearNet
from iqarena_attacks.korhonen import activity
from iqarena_attacks.perceptual import similarity, similarity_gradient

EPS = 8 / 255


def test_korhonen_goes_as_far_as_the_activity_allows() -> None:
    run = Run("korhonen", [Linear()])
    weight = torch.from_numpy(np.stack([activity(p.permute(1, 2, 0).numpy()) for p in run.pixels]))[:, None]
    net = run.scorers[0].module
    assert isinstance(net, LinearNet)
    expected = (run.x + EPS * weight * BOTH.view(-1, 1, 1, 1) * net.weights(run.x).sign()).clamp(0, 1)
    assert torch.allclose(run.raw, expected, atol=1e-6)
    assert 0.1 < float(weight.mean()) < 0.9


def test_activity_is_where_something_happens() -> None:
    flat = np.full((20, 30, 3), 90, np.uint8)
    assert (activity(flat) == 1).all(), "nothing to prefer"
    edge = flat.copy()
    edge[:, 15:] = 120
    actual = activity(edge)
    assert (actual[:, 13:17] == 1).all()
    assert (actual[:, :11] == 0).all()
    assert (actual[:, 19:] == 0).all()


def test_similarity_is_ssim() -> None:
    x, z = (torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(i)).double() for i in (0, 1))

    def mean(plane: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(plane, 1.5, radius=5)[5:-5, 5:-5]

    actual = []
    for a, b in zip(x[0].numpy(), z[0].numpy(), strict=True):
        ma, mb = mean(a), mean(b)
        va, vb, both = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
        actual.append((2 * ma * mb + 1e-4) * (2 * both + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    assert float(similarity(x, z)) == pytest.approx(float(np.mean(actual)), rel=1e-6)
    assert float(similarity(x, x)) == pytest.approx(1)


def test_the_gradient_of_similarity() -> None:
    x, z = (torch.rand(2, 3, 16, 18, generator=torch.Generator().manual_seed(i)).double() for i in (0, 1))
    step = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).double()
    actual = (similarity_gradient(x, z) * step).sum((1, 2, 3))
    for i in range(2):
        a, b = (similarity(x[i : i + 1], z[i : i + 1] + h * step[i : i + 1]) for h in (1e-5, -1e-5))
        assert float(actual[i]) == pytest.approx(float(a - b) / 2e-5, rel=1e-5)
    assert not similarity_gradient(x, x.clone()).any(), "the optimum"


def test_weight_buys_similarity_with_score() -> None:
    runs = [Run(f"perceptual(weight={weight})") for weight in (0, 30, 300)]
    likeness = [torch.stack([similarity(r.x[i : i + 1], r.raw[i : i + 1]) for i in range(4)]) for r in runs]
    gains = [r.gains(r.raw) for r in runs]
    for less, more in ((0, 1), (1, 2)):
        assert (likeness[less] < likeness[more]).all()
        assert (gains[less] > gains[more]).all()
    assert (gains[2] > 0).all()


def test_the_square_weighs_the_score_by_twice_its_change() -> None:
    """Step by step on a linear scorer, where ``∇ d·|d| = 2|d|·w``; SSIM's slope by the tested function."""
    spec = "perceptual(squared=true, noise=1/255, steps=3, weight=0.02, eps=4/255)"
    attack, run = build_attack(spec), Run(spec, [Linear()])
    net = run.scorers[0].module
    assert isinstance(net, LinearNet)
    streams = Streams([f"picture {i}" for i in range(4)], repr(attack))
    s, eps = BOTH.view(-1, 1, 1, 1), 4 / 255
    z = run.x + (streams.signs(run.x) - 1) / 510
    assert set(((z - run.x) * 255).round().unique().tolist()) == {-1, 0}, "−1/255 or 0"
    z = z.clamp(0, 1)
    for t in range(3):
        d = (run.scorers[0].score(z) - run.scorers[0].score(run.x)).abs().float().view(-1, 1, 1, 1)
        g = 2 * d * s * net.weights(run.x).detach() + 0.02 * similarity_gradient(run.x, z)
        z = (z + 2 * eps / 3 * (1 - t / 3) * g.sign()).clamp(run.x - eps, run.x + eps).clamp(0, 1)
    assert ((run.raw - z).abs() < 1e-6).double().mean() > 0.998
    plain = Run("perceptual(noise=1/255, steps=3, weight=0.02, eps=4/255)", [Linear()])
    assert ((plain.raw - z).abs() < 1e-6).double().mean() < 0.99, "the square is seen"


def test_the_square_goes_the_wanted_way_wherever_the_noise_leads() -> None:
    run = Run("perceptual(squared=true, noise=1/255, weight=0)")
    assert (run.gains(run.raw) > 0).all()
    with pytest.raises(SpecError, match="expected noise > 0 with squared"):
        build_attack("perceptual(squared=true)")
