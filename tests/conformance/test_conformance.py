"""Every registered attack, filter, scorer and defense does what it declares; being in the table is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from attackruns import SHORT

from iqarena.registry.tables import build, names, origin
from iqarena.testing import Check
from iqarena.tools.check import checks

# Beside the defaults: parameters that change what is declared.
VARIANTS = {
    "attack": [
        "noise(mask=jnd|random(keep=0.3))",
        "pgd(random_start=true)",
        "pgd(eps=4/255, steps=3, alpha=none)",
        "sega(samples=4, gradient_filter=none, mask=none)",
        "sega(samples=5, sigma=0, gradient_filter=random)",
        "sega(samples=3, steps=3, alpha=3/255, decay=1)",
        "sega(samples=4, antithetic=true, shared_noise=false, weights=l2)",
        "sega(samples=2, weights=range)",
        "sega(samples=2, sigma=auto)",
        "di_fgsm(steps=3, p=0)",
        "di_fgsm(steps=3, p=1, grow=0.5)",
        "si_fgsm(steps=3, nesterov=true)",
        "ti_fgsm(steps=2, size=1)",
        "pi_fgsm(steps=3, beta=1, size=5)",
        "perceptual(weight=0, steps=2)",
        "perceptual(squared=true, noise=1/255, steps=3)",
        "torchattacks.DIFGSM(steps=3, diversity_prob=0)",
    ],
    "filter": [
        "jnd|fourier_topk(keep=0.1)",
        "random(keep=0.2)|jnd(threshold=0)",
        "random(keep=1)",
        "fourier_topk(keep=1)",
        "fourier_lowpass(cutoff=0.75)",
        "fourier_highpass(cutoff=0)",
        "magnitude_topk(keep=1)",
        "edges|magnitude_topk(keep=0.2)",
        "jnd(threshold=1000)",
    ],
    "model": ["toy_linear(seed=3)", "flip(draws=2)|jpeg|toy_curved"],
    "defense": ["bit_depth(bits=8)", "gaussian(size=1)", "resize(factor=1)", "unsharp(amount=0)"],
}


def _checks(kind: str, spec: str) -> Iterator[Check]:
    return checks(kind, build(kind, spec), TRAINED.get(spec, "toy_curved"))


TRAINED = {"gradient_norm": "cnn", "adversarial": "cnn"}  # a scorer that the defense's weights are shipped for
MISBEHAVED = ("toy_constant", "toy_noisy", "toy_shut")  # on purpose


def _at_hand(kind: str, name: str) -> bool:
    """Published scorers need files that are not shipped: tests/models gives them random ones."""
    return name not in MISBEHAVED and not origin(kind, name).startswith("iqarena_models.published:")


SPECS = [
    (kind, SHORT.get(spec, spec))
    for kind, subset in VARIANTS.items()
    for spec in [*(name for name in names(kind) if _at_hand(kind, name)), *subset]
]
CASES = [pytest.param(check, id=f"{spec}-{name}") for kind, spec in SPECS for name, check in _checks(kind, spec)]


@pytest.mark.parametrize("check", CASES)
def test_it_does_what_it_declares(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize(("kind", "spec"), SPECS)
def test_no_plugin_gets_away_without_checks(kind: str, spec: str) -> None:
    """Nothing is skipped, and nothing is checked by only what holds for every plugin."""
    actual = [name for name, _ in _checks(kind, spec)]
    assert len(actual) >= 8
    assert len(set(actual)) == len(actual)
