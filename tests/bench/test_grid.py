"""Factorials in suites: which attacks they stand for, what is refused, and sources by subsets."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toyruns import Answer

from iqarena.errors import IqarenaError, SpecError
from iqarena.registry.tables import build_attack
from iqarena.store.folder import Store
from iqarena.store.manifest import GradientCounts
from iqarena.suite.file import load_suite
from iqarena.suite.grid import expand
from iqarena.suite.plan import resolve


def test_a_grid_is_every_combination_of_canonical_specs() -> None:
    grid = expand({
        "attack": "sega(samples=5)", "sigma": [0, "8/255"], "mask": ["none", "jnd(6)", "jnd(3)|random(0.5)"]
    })  # fmt: skip
    assert repr(grid.reference) == repr(build_attack("sega(samples=5)"))
    assert grid.factors == ("sigma", "mask")
    assert [a.label for a in grid.attacks] == [
        "sega(samples=5, sigma=0, mask=none)",
        "sega(samples=5, sigma=0)",
        "sega(samples=5, sigma=0, mask=jnd(threshold=3)|random)",
        "sega(samples=5, mask=none)",
        "sega(samples=5)",
        "sega(samples=5, mask=jnd(threshold=3)|random)",
    ]
    assert [repr(build_attack(repr(a))) for a in grid.attacks] == [repr(a) for a in grid.attacks]


def test_a_factor_may_be_true_or_false() -> None:
    grid = expand({"attack": "sega(samples=4)", "antithetic": [False, True]})
    assert [a.label for a in grid.attacks] == ["sega(samples=4)", "sega(samples=4, antithetic=true)"]


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"attack": "sega"}, "a list for each parameter"),
        ({"mask": ["none", "jnd"]}, 'expected attack = "…"'),
        ({"attack": "sega", "sigma": "8/255"}, "expected a list of at least two values for 'sigma', found '8/255'"),
        ({"attack": "sega", "sigma": ["8/255"]}, "at least two values"),
        ({"attack": "sega", "maks": ["none", "jnd"]}, "has no parameter 'maks'; nearest: 'mask'"),
        ({"attack": "sega", "mask": ["none", "random"]}, "lack that of the reference sega, jnd(threshold=6); add it"),
        ({"attack": "sega", "sigma": [True, "8/255"]}, "expected a number"),
        ({"attack": "sega", "mask": ["", "jnd"]}, "expected a name"),
        ({"attack": "sega", "samples": [0, 20]}, "samples ≥ 1"),
    ],
)
def test_what_cannot_be_crossed_is_refused_in_one_line(grid: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=re.escape(words)) as refused:
        expand(grid)
    assert "\n" not in str(refused.value)


def test_a_grid_joins_the_attacks_of_its_suite(suite: Path) -> None:
    grid = {"attack": "fgsm", "eps": ["4/255", "8/255"]}
    plan = resolve(load_suite(str(suite), {"grid": grid, "attacks": ["noise"]}))
    assert [a.label for a in plan.attacks] == ["noise", "fgsm(eps=4/255)", "fgsm"]
    with pytest.raises(SpecError, match=r"attack fgsm\(eps=8/255\) is listed twice"):
        resolve(load_suite(str(suite), {"grid": grid, "attacks": ["fgsm"]}))
    suite.write_text(
        re.sub("attacks = .*", "", suite.read_text()) + '[grid]\nattack = "fgsm"\neps = ["8/255", "1/255"]\n'
    )
    assert len(resolve(load_suite(str(suite))).attacks) == 2, "a grid alone will do"


def test_subsets_are_all_choices_that_leave_a_target_out(suite: Path) -> None:
    keys = {"targets": ["toy_curved", "toy_curved(seed=1)", "toy_linear"], "sources": ["subsets"]}
    plan = resolve(load_suite(str(suite), keys))
    assert [len(s.models) for s in plan.sources] == [1, 1, 1, 2, 2, 2]
    assert len({s.spec for s in plan.sources}) == 6
    assert [len(plan.scored(s)) for s in plan.sources] == [3, 3, 3, 1, 1, 1]
    step = resolve(load_suite(str(suite), {**keys, "targets": [*keys["targets"], "toy_step"]}))
    assert max(len(s.models) for s in step.sources) == 3, "a target without a gradient is always left out"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("ssim", 1.5, "expected a mean SSIM between 0 and 1 for 'ssim', found 1.5"),
        ("ssim", "high", "expected a mean SSIM"),
        ("diagnostics", "yes", "expected true or false for 'diagnostics'"),
        ("grid", "sega", "expected a table"),
        ("grid", {}, "expected the key 'grid', found none"),
    ],
)
def test_bad_values_of_the_new_keys(suite: Path, key: str, value: Any, words: str) -> None:
    with pytest.raises(IqarenaError, match=re.escape(words)):
        load_suite(str(suite), {key: value})


def test_a_filter_ablation_of_any_size_costs_one_gradient_pass(
    suite: Path, tmp_path: Path, iqarena: Callable[..., Answer]
) -> None:
    filters = """attacks = []
[grid]
attack = "sega(samples=3)"
gradient_filter = ["none", "fourier_topk(0.5)", "random(0.5)"]
mask = ["none", "jnd(6)"]
"""
    suite.write_text(re.sub("attacks = .*\n", filters, suite.read_text()))
    answer = iqarena("run", suite, "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    store = Store(tmp_path / "run")
    requested, evaluated = (
        5 * 6 * 3 * (1 + 1 + 2),
        5 * 3 * 2,
    )  # images × combinations × samples × members; no combinations
    assert store.manifest().gradients == GradientCounts(evaluated, resumed=False)
    message = (
        f"{requested} gradients of an image requested by the attacks, {evaluated} evaluated; the others were remembered"
    )
    assert message in answer.out
    assert message in (tmp_path / "run" / "ablation.md").read_text()
    for i in (1, 2):
        iqarena("run", suite, "--out", tmp_path / "shards", "--shard", f"{i}/2")
    assert Store(tmp_path / "shards").manifest().gradients == GradientCounts(evaluated, resumed=False)
    next(store.rows_folder.glob("p1*")).unlink()
    again = iqarena("run", suite, "--out", tmp_path / "run")
    assert store.manifest().gradients == GradientCounts(evaluated // 5, resumed=True)
    assert f"the last invocation, which went on from earlier rows, evaluated {evaluated // 5}" in again.out
