"""The rivals of SEGA: each against a slow reference, a closed form or the attack that it becomes for special values."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from attackruns import BOTH, CURVED, ENSEMBLE, Bent, Run, assert_same_up_to_rounding
from torch import Tensor, nn

from iqarena.api import Model, SpecError
from iqarena.api.streams import Streams
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.registry.tables import build_attack
from iqarena.testing import Curved, Linear
from iqarena_attacks._images import references
from iqarena_attacks.si_fgsm import scaled
from iqarena_attacks.ssa import reweighted

EPS = 8 / 255


# ---- special values


@pytest.mark.parametrize("models", [CURVED, ENSEMBLE], ids=["one", "ensemble"])
@pytest.mark.parametrize(
    ("rival", "same"),
    [
        ("i_fgsm", "pgd(alpha=none)"),
        ("ni_fgsm(decay=0)", "i_fgsm"),
        ("di_fgsm(p=0)", "mi_fgsm"),
        ("ti_fgsm(size=1)", "mi_fgsm"),
        ("si_fgsm(scales=1)", "mi_fgsm"),
        ("si_fgsm(scales=1, nesterov=true)", "ni_fgsm"),
        ("vmi_fgsm(samples=1, beta=0)", "mi_fgsm"),
        ("vni_fgsm(samples=1, beta=0, decay=0)", "i_fgsm"),
        ("vmi_fgsm(steps=1)", "mi_fgsm(steps=1)"),
        ("pi_fgsm(beta=1)", "i_fgsm"),
        ("pi_fgsm(beta=0.5)", "i_fgsm(alpha=0.4/255)"),
        ("admix(eta=0, samples=1, scales=3)", "si_fgsm(scales=3)"),
        ("smoothgrad_fgsm(sigma=0)", "fgsm"),
    ],
)
def test_special_values_are_other_attacks(rival: str, same: str, models: Sequence[Model]) -> None:
    a, b = Run(rival, models), Run(same, models)
    assert torch.equal(a.raw, b.raw)
    assert not torch.equal(a.raw, a.x)
    plain = Run(rival.partition("(")[0] + ("(samples=2)" if rival[0] in "va" else ""), models)
    assert not torch.equal(plain.raw, a.raw) or rival == "i_fgsm"


# ---- the look-ahead and the variance, step by step


def _slow(spec: str, steps: int, gradient: Any) -> None:
    """Image by image: momentum of ``gradient(net, z, m, s, streams, state)`` in single precision."""
    attack, run = build_attack(spec), Run(spec)
    net = Curved().load()

    def nabla(at: Tensor) -> Tensor:
        leaf = at.detach().requires_grad_(True)
        return torch.autograd.grad(net(leaf).sum(), leaf)[0]

    for i in range(4):
        x, s = run.x[i : i + 1], BOTH[i]
        streams, state = Streams([f"picture {i}"], repr(attack)), {}
        z, m = x.clone(), torch.zeros_like(x)
        for _ in range(steps):
            g = gradient(nabla, z, m, s, streams, state)
            m = m + g / g.abs().mean()
            z = (z + s * EPS / steps * m.sign()).clamp(x - EPS, x + EPS).clamp(0, 1)
        same = (run.raw[i : i + 1] - z).abs() < 1e-6
        assert same.double().mean() > 0.999  # a gradient of nearly zero may fall to either side


def test_ni_looks_ahead() -> None:
    _slow("ni_fgsm(steps=4)", 4, lambda nabla, z, m, s, streams, state: nabla(z + s * EPS / 4 * m))


@pytest.mark.parametrize(
    ("spec", "pivot"), [("si_fgsm(steps=3, scales=4)", 0.5), ("si_fgsm(steps=3, scales=4, pivot=0)", 0)]
)
def test_si_is_the_mean_over_scales(spec: str, pivot: float) -> None:
    def gradient(nabla: Any, z: Tensor, m: Tensor, s: Tensor, streams: Streams, state: dict[str, Tensor]) -> Tensor:
        copies = ((nabla(pivot + (z - pivot) * scale) * scale) for scale in (1, 0.5, 0.25, 0.125))
        return sum(copies, torch.zeros_like(z)) / 4

    _slow(spec, 3, gradient)


def test_copies_lose_contrast_about_mid_grey() -> None:
    """By hand: 0, 0.2, 0.5, 1 at half the contrast are 0.25, 0.35, 0.5, 0.75, and at an eighth 0.4375 to 0.5625."""
    z = torch.tensor([0.0, 0.2, 0.5, 1.0])
    assert torch.equal(scaled(z, 0, 0.5), z), "the first copy is the image itself"
    assert scaled(z, 1, 0.5).tolist() == pytest.approx([0.25, 0.35, 0.5, 0.75])
    assert scaled(z, 3, 0.5).tolist() == pytest.approx([0.4375, 0.4625, 0.5, 0.5625])
    assert scaled(z, 1, 0.0).tolist() == pytest.approx([0.0, 0.1, 0.25, 0.5]), "darker, about black"


class _SeenScorer(nn.Module):
    """The mean of an image; it keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shown.append(x.detach().clone())
        return x.mean((1, 2, 3))


def _shown(spec: str, x: Tensor) -> list[Tensor]:
    """What a source is shown by ``spec``."""
    net = _SeenScorer()
    model = type("Seen", (Model,), {"name": "seen", "load": lambda self: net})()
    attack = build_attack(spec)
    streams = Streams([str(i) for i in range(len(x))], repr(attack))
    attack.perturb(x, Source([Scorer(model)], x, streams), streams)
    return net.shown


def test_what_si_and_admix_show_a_scorer() -> None:
    """A flat image of 0.8: SI shows 0.8, 0.65, 0.575; Admix adds ``eta`` times the contrast of another image."""
    x = torch.full((1, 3, 24, 32), 0.8)
    assert [float(seen.mean()) for seen in _shown("si_fgsm(steps=1, scales=3)", x)] == pytest.approx([0.8, 0.65, 0.575])
    first, second = _shown("admix(steps=1, samples=1, scales=2, eta=0.5)", x)
    other = (first - x) / 0.5 + 0.5
    small = torch.nn.functional.interpolate(references().float() / 255, (24, 32), mode="area")
    assert float((small - other).abs().amax((1, 2, 3)).min()) < 1e-5, "one of the reference images, about mid-grey"
    assert torch.allclose(second, 0.5 + (first - 0.5) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "lookahead"), [("vmi_fgsm(steps=3, samples=4)", 0), ("vni_fgsm(steps=3, samples=4)", 1)]
)
def test_variance_is_that_of_the_neighbours(spec: str, lookahead: int) -> None:
    def gradient(nabla: Any, z: Tensor, m: Tensor, s: Tensor, streams: Streams, state: dict[str, Tensor]) -> Tensor:
        g = nabla(z + lookahead * s * EPS / 3 * m)
        tuned = g + state.get("v", 0)
        around = [nabla(z + 1.5 * EPS * (2 * streams.uniform(z) - 1)) for _ in range(4)]
        state["v"] = torch.stack(around).mean(0) - g
        return tuned

    _slow(spec, 3, gradient)


@pytest.mark.parametrize(
    ("spec", "pivot"),
    [("admix(steps=3, samples=2, scales=2)", 0.5), ("admix(steps=3, samples=2, scales=2, pivot=0)", 0)],
)
def test_admix_mixes_in_reference_images(spec: str, pivot: float) -> None:
    def gradient(nabla: Any, z: Tensor, m: Tensor, s: Tensor, streams: Streams, state: dict[str, Tensor]) -> Tensor:
        total = torch.zeros_like(z)
        for _ in range(2):
            other = int(len(references()) * float(streams.uniform(z.new_empty(1, 1))))  # toy images show none of them
            small = torch.nn.functional.adaptive_avg_pool2d(references()[other : other + 1].float() / 255, (32, 40))
            mixed = z + 0.2 * (small - pivot)
            total += nabla(mixed) + nabla((mixed + pivot) / 2) / 2
        return total / 4

    _slow(spec, 3, gradient)


# ---- PI


CLIPPED = [
    ("i_fgsm", "torchattacks.BIM"),
    ("i_fgsm(steps=4, alpha=3/255)", "torchattacks.BIM(steps=4, alpha=3/255)"),
    ("pi_fgsm", "torchattacks.PIFGSM"),
    ("pi_fgsm(steps=4, beta=2.5)", "torchattacks.PIFGSM(steps=4, amplification=2.5)"),
]


@pytest.mark.parametrize(("ours", "theirs"), CLIPPED)
def test_ours_equals_torchattacks_in_whole_levels(ours: str, theirs: str) -> None:
    """They clip to the ball in another order, which rounds the last bits of a float."""
    a, b = Run(ours, [Bent()]), Run(theirs, [Bent()])
    assert torch.equal(a.crafted.adversarial, b.crafted.adversarial)
    assert torch.allclose(a.raw, b.raw, rtol=0, atol=2e-7)
    assert (a.source.forwards, a.source.backwards) == (b.source.forwards, b.source.backwards)


@pytest.mark.parametrize("models", [CURVED, ENSEMBLE], ids=["one", "ensemble"])
@pytest.mark.parametrize(("ours", "theirs"), CLIPPED)
def test_ours_equals_torchattacks_on_smooth_scorers(ours: str, theirs: str, models: Sequence[Model]) -> None:
    assert_same_up_to_rounding(ours, theirs, models, share=0.001)


# ---- torchattacks' other two


def test_sinifgsm_weighs_its_scales_unlike_ours() -> None:
    """Its copies are darker, as ours about 0, and its cross-entropy scales the gradient of each.

    Where copies agree on the gradient that does no harm.
    """
    for model, least, most in ((Linear(), 1, 1), (Curved(), 0.95, 0.9999)):
        ours, theirs = (Run(s, [model]).raw for s in ("si_fgsm(nesterov=true, pivot=0)", "torchattacks.SINIFGSM"))
        assert least <= ((ours - theirs).abs() < 1e-6).double().mean() <= most


def test_diverse_inputs_of_torchattacks_leave_the_global_stream_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = Run("torchattacks.DIFGSM").raw
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    with ThreadPoolExecutor(3) as pool:
        for raw in pool.map(lambda _: Run("torchattacks.DIFGSM").raw, range(3)):
            assert torch.equal(raw, first)


# ---- the ensemble in the gradients


def test_sources_weigh_the_same_in_the_gradients() -> None:
    assert torch.equal(Run("ens_mi_fgsm").raw, Run("mi_fgsm").raw)
    models = (Curved(), Linear(), Curved(seed=1))
    run = Run("ens_mi_fgsm(steps=1)", models)
    each = torch.stack([Scorer(model).value_and_gradient(run.x)[1] for model in models])
    votes = (each / each.abs().mean((2, 3, 4), keepdim=True)).mean(0)
    expected = (run.x + EPS * BOTH.view(-1, 1, 1, 1) * votes.sign()).clamp(0, 1)
    assert torch.allclose(run.raw, expected, rtol=0, atol=1e-6)
    assert not torch.equal(run.raw, Run("mi_fgsm(steps=1)", models).raw)


# ---- SSA


def test_the_spectrum_is_that_of_the_cosine_transform() -> None:
    x, weights = (torch.rand(2, 3, 12, 9, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    assert torch.allclose(reweighted(x, torch.ones_like(x)), x, atol=1e-6)

    def matrix(n: int) -> Tensor:
        k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
        rows = torch.cos(torch.pi * k * (2 * i + 1) / (2 * n)) * (2 / n) ** 0.5
        return torch.cat([rows[:1] / 2**0.5, rows[1:]])

    rows, columns = matrix(12), matrix(9)
    spectrum = (rows @ x.double() @ columns.T) * weights
    assert torch.allclose(reweighted(x, weights).double(), rows.T @ spectrum @ columns, atol=1e-6)


def test_ssa_without_simulation_is_i_fgsm() -> None:
    for ours, same in (("steps=10", "i_fgsm"), ("steps=10, decay=1", "mi_fgsm")):
        a, b = Run(f"ssa(samples=1, rho=0, sigma=0, {ours})"), Run(same)
        assert (a.crafted.adversarial == b.crafted.adversarial).double().mean() > 0.998, "D⁻¹D rounds"
    assert not torch.equal(Run("ssa(samples=1, rho=0, steps=2)").raw, Run("ssa(samples=1, sigma=0, steps=2)").raw)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("di_fgsm(p=1.5)", "expected p in [0, 1], found 1.5"),
        ("di_fgsm(grow=0)", "expected grow in (0, 1], found 0"),
        ("ti_fgsm(size=4)", "expected an odd size ≥ 1, found 4"),
        ("ti_fgsm(reach=0)", "expected reach > 0, found 0"),
        ("si_fgsm(scales=0)", "expected scales ≥ 1, found 0"),
        ("vmi_fgsm(samples=0)", "expected samples ≥ 1, found 0"),
        ("vni_fgsm(beta=-1)", "vni_fgsm: expected beta ≥ 0, found -1"),
        ("pi_fgsm(beta=0)", "expected beta > 0, found 0"),
        ("pi_fgsm(size=1)", "expected an odd size ≥ 3, found 1"),
        ("smoothgrad_fgsm(samples=0)", "expected samples ≥ 1, found 0"),
        ("smoothgrad_fgsm(sigma=-1)", "expected sigma ≥ 0, found -1"),
        ("admix(samples=0)", "expected samples ≥ 1, found 0"),
        ("admix(scales=0)", "expected scales ≥ 1, found 0"),
        ("admix(eta=-1)", "expected eta ≥ 0, found -1"),
        ("ssa(samples=0)", "expected samples ≥ 1, found 0"),
        ("ssa(rho=2)", "expected rho in [0, 1], found 2"),
        ("ssa(sigma=-1)", "expected sigma ≥ 0, found -1"),
        ("perceptual(weight=-1)", "expected weight ≥ 0, found -1"),
        ("perceptual(noise=2)", "expected noise in [0, 1], found 2"),
        ("si_fgsm(pivot=2)", "expected pivot in [0, 1], found 2"),
        ("torchattacks.PGD(steps=0)", "torchattacks.PGD: expected steps ≥ 1, found 0"),
        ("torchattacks.BIM(alpha=0)", "expected alpha > 0 or none, found 0"),
        ("torchattacks.MIFGSM(decay=-1)", "expected decay ≥ 0, found -1"),
        ("torchattacks.SINIFGSM(m=0)", "expected m ≥ 1, found 0"),
        ("torchattacks.DIFGSM(diversity_prob=2)", "expected diversity_prob in [0, 1], found 2"),
        ("torchattacks.TIFGSM(resize_rate=1)", "expected resize_rate in (0, 1) or (1, 2), found 1"),
        ("torchattacks.PIFGSM(steps=0)", "expected steps ≥ 1, found 0"),
        ("torchattacks.PIFGSM(amplification=0)", "expected amplification > 0, found 0"),
    ],
)
def test_a_mistake_is_one_line(spec: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        build_attack(spec)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
