"""Diverse inputs (DI) and translation invariance (TI): what a scorer is shown, and how its answer is blurred."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attackruns import BOTH, Run, best_gains
from scipy import ndimage
from torch import Tensor

from iqarena.api.streams import Streams
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.testing import Linear, LinearNet, images
from iqarena_attacks._frame import State
from iqarena_attacks.di_fgsm import DiFgsm
from iqarena_attacks.ti_fgsm import TiFgsm

EPS = 8 / 255


def test_diverse_inputs_hold_the_image_on_mid_grey() -> None:
    attack, x = DiFgsm(grow=0.25), 0.51 + images(range(4)).float() / 530
    drawn = torch.tensor([[0.0, 0, 0], [0.999, 0.5, 0.5], [0.5, 0.999, 0.0], [0.0, 0.999, 0.999]])
    built = attack._transform(x, drawn)
    assert built.shape == (4, 3, 40, 50)
    corners = [(0, 0), (1, 1), (4, 0), (8, 10)]
    sizes = [(32, 40), (39, 49), (36, 45), (32, 40)]
    for image, source, (top, left), (height, width) in zip(built, x, corners, sizes, strict=True):
        inside = image[:, top : top + height, left : left + width]
        assert inside.min() > 0.5
        assert image.min() == 0.5
        assert float((image > 0.5).sum()) == 3 * height * width
        rows, columns = (torch.arange(n) * of // n for n, of in ((height, 32), (width, 40)))
        assert torch.equal(inside, source[:, rows][:, :, columns]), "the nearest neighbour"


def test_the_gradient_through_diverse_inputs_is_the_slope() -> None:
    """Of a linear scorer, whose weights are those of another size: exact, as everything is linear."""
    attack, x = DiFgsm(p=1.0), images(range(4)).float() / 255
    streams = Streams([str(i) for i in range(4)], "di")
    scorer = Scorer(Linear())
    g = attack.gradient(x, State(x, x, Source([scorer], x, streams), streams, x))
    drawn = Streams([str(i) for i in range(4)], "di").uniform(x.new_empty(4, 4))[:, 1:]
    step = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    slope = scorer.score(attack._transform(x + step, drawn)) - scorer.score(attack._transform(x, drawn))
    assert (g * step).double().sum((1, 2, 3)).tolist() == pytest.approx(slope.tolist(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("spec", ["di_fgsm", "torchattacks.DIFGSM"])
def test_images_are_diverse_each_by_itself(spec: str) -> None:
    """And every image still pays for ten gradients, and has its share of zero ones noted."""
    run = Run(spec)
    assert run.source.backwards == 10
    assert run.source.zero_gradient is not None
    assert run.source.zero_gradient.tolist() == [0] * 4
    assert not torch.equal(run.raw, Run("mi_fgsm").raw)


def _blurred_weights(run: Run, size: int, reach: float) -> Tensor:
    """Gaussian blur of a linear scorer's gradient by scipy, zeros beyond the border."""
    net = run.scorers[0].module
    assert isinstance(net, LinearNet)
    deviation = (size - 1) / 2 / reach
    planes = net.weights(run.x).detach().double().numpy()
    blurred = [ndimage.gaussian_filter(p, deviation, mode="constant", radius=size // 2) for p in planes]
    return torch.from_numpy(np.stack(blurred))


@pytest.mark.parametrize(("size", "reach"), [(15, 3), (5, 2)])
def test_ti_reaches_the_corner_of_the_blurred_scorer(size: int, reach: float) -> None:
    run = Run(f"ti_fgsm(size={size}, reach={reach})", [Linear()])
    signs = _blurred_weights(run, size, reach).sign()
    expected = (run.x + EPS * BOTH.view(-1, 1, 1, 1) * signs).clamp(0, 1)
    assert ((run.raw - expected).abs() < 1e-5).double().mean() > 0.999
    share = run.gains(run.crafted.unrounded) / best_gains(run)
    assert (share > 0).all()
    assert share.max() < 0.9, "a blurred sign is not the best one"


def test_the_kernel_is_normalised() -> None:
    for size in (1, 3, 15):
        assert float(TiFgsm(size=size).line().sum()) == pytest.approx(1)
